from metaflow import FlowSpec, Parameter, step


class WideFlow(FlowSpec):
    """A foreach of one step, as wide as it is told."""

    splits = Parameter("splits", type=int, default=3)

    @step
    def start(self):
        self.items = list(range(self.splits))
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.result = self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.results = [one.result for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    WideFlow()
