from metaflow import FlowSpec, step


class AnywhereFlow(FlowSpec):
    """A foreach and a switch, for every object store."""

    @step
    def start(self):
        self.items = [1, 2]
        self.next(self.double, foreach="items")

    @step
    def double(self):
        self.value = self.input * 2
        self.next(self.join)

    @step
    def join(self, inputs):
        self.values = [one.value for one in inputs]
        self.next(self.decide)

    @step
    def decide(self):
        self.size = "large" if sum(self.values) > 5 else "small"
        self.next({"large": self.large, "small": self.small}, condition="size")

    @step
    def large(self):
        self.path = "large"
        self.next(self.end)

    @step
    def small(self):
        self.path = "small"
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    AnywhereFlow()
