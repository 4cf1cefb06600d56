from metaflow import FlowSpec, step


class NestedForeachFlow(FlowSpec):
    '''Two and three deep, of varying sizes, with steps between the levels and after the inner joins.'''

    @step
    def start(self):
        self.outer = [1, 2, 3]
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
        self.deep = ["p", "q"][: 1 + self.input % 2]
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
        self.ls = [inp.l for inp in inputs]
        self.merge_artifacts(inputs, include=["w"])
        self.next(self.after_deep)

    @step
    def after_deep(self):
        self.ls = self.ls + [self.w]
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
