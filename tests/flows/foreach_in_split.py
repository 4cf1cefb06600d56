from metaflow import FlowSpec, step


class ForeachInSplitFlow(FlowSpec):
    @step
    def start(self):
        self.next(self.fan, self.side)

    @step
    def fan(self):
        self.items = [5, 6]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.b = self.input + 1
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.v = [inp.b for inp in inputs]
        self.next(self.meet)

    @step
    def side(self):
        self.v = "side"
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.vs = [inputs.collect.v, inputs.side.v]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ForeachInSplitFlow()
