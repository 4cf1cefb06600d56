from metaflow import FlowSpec, Parameter, current, schedule, step, trigger


@schedule(cron="0 0 1 1 ? *", timezone="Europe/Berlin")
@trigger(events=[{"name": "tests.one", "parameters": ["first"]}, {"name": "tests.two", "parameters": [("second", "b")]}])
class OnBothFlow(FlowSpec):
    first = Parameter("first", default="-")
    second = Parameter("second", default="-")

    @step
    def start(self):
        self.seen = (self.first, self.second)
        self.names = sorted(event.name for event in current.trigger.events)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    OnBothFlow()
