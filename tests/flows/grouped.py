from metaflow import FlowSpec, Parameter, step


class GroupedFlow(FlowSpec):
    text = Parameter("text", default="default")

    @step
    def start(self):
        self.items = [0, 1]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.t = f"{self.text}{self.input}"
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.texts = [inp.t for inp in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    GroupedFlow()
