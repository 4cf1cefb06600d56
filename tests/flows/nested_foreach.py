from metaflow import FlowSpec, step


class NestedForeachFlow(FlowSpec):
    '''Three deep, of unequal sizes at both inner levels.

    There is a step between two levels and none between the others, a step between two joins and none between the others.
    '''

    @step
    def start(self):
        self.outer = [1, 2]
        self.next(self.prepare, foreach="outer")

    @step
    def prepare(self):
        self.o = self.input
        self.next(self.fan)

    @step
    def fan(self):
        self.inner = list(range(self.o))
        self.next(self.work, foreach="inner")

    @step
    def work(self):
        self.deep = ["p", "q"][: 1 + self.input]
        self.w = self.o * 100 + self.input
        self.next(self.leaf, foreach="deep")

    @step
    def leaf(self):
        self.l = f"{self.w}{self.input}"
        self.next(self.leaf2)

    @step
    def leaf2(self):
        self.l += "!"
        self.next(self.deep_join)

    @step
    def deep_join(self, inputs):
        self.merge_artifacts(inputs, include=["w"])
        self.ls = [inp.l for inp in inputs] + [self.w]
        self.next(self.inner_join)

    @step
    def inner_join(self, inputs):
        self.all = [inp.ls for inp in inputs]
        self.next(self.after_inner)

    @step
    def after_inner(self):
        self.count = len(self.all)
        self.next(self.outer_join)

    @step
    def outer_join(self, inputs):
        self.result = [(inp.count, inp.all) for inp in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    NestedForeachFlow()
