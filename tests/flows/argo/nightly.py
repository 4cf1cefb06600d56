from metaflow import FlowSpec, Parameter, current, schedule, step


@schedule(cron="* * * * ? *", timezone="Europe/Berlin")
class NightlyFlow(FlowSpec):
    """Runs every minute."""

    size = Parameter("size", default=2)

    @step
    def start(self):
        self.double = self.size * 2
        self.next(self.end)

    @step
    def end(self):
        self.run = current.run_id


if __name__ == "__main__":
    NightlyFlow()
