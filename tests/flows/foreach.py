from metaflow import FlowSpec, step


class ForeachFlow(FlowSpec):
    '''A one-step body, then a body of several steps, then a foreach of one element.'''

    @step
    def start(self):
        self.items = list("abc")
        self.next(self.upper, foreach="items")

    @step
    def upper(self):
        self.v = self.input.upper() + str(self.index)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.vs = [inp.v for inp in inputs]
        self.next(self.refan)

    @step
    def refan(self):
        self.numbers = [3, 1, 2]
        self.next(self.first, foreach="numbers")

    @step
    def first(self):
        self.n = self.input * 10
        self.next(self.second)

    @step
    def second(self):
        self.n = (self.n + self.index, self.input)
        self.next(self.gather2)

    @step
    def gather2(self, inputs):
        self.ns = [inp.n for inp in inputs]
        self.merge_artifacts(inputs, include=["vs"])
        self.next(self.single)

    @step
    def single(self):
        self.one = ["x"]
        self.next(self.lonely, foreach="one")

    @step
    def lonely(self):
        self.y = self.input * 2
        self.next(self.gather3)

    @step
    def gather3(self, inputs):
        self.ys = [inp.y for inp in inputs]
        self.merge_artifacts(inputs, include=["vs", "ns"])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ForeachFlow()
