from metaflow import FlowSpec, Parameter, current, step


class UpstreamFlow(FlowSpec):
    value = Parameter("value", default=1)

    @step
    def start(self):
        self.trigger = current.trigger.event.name if current.get("trigger") else None
        self.items = [1, 2, 3]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.next(self.finish)

    @step(end=True)
    def finish(self):
        self.result = self.value * 10


if __name__ == "__main__":
    UpstreamFlow()
