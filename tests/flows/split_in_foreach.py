from metaflow import FlowSpec, step


class SplitInForeachFlow(FlowSpec):
    '''A split inside a foreach, one branch of which has a foreach of its own.'''

    @step
    def start(self):
        self.items = [1, 2]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.b = self.input
        self.next(self.plain, self.fan)

    @step
    def plain(self):
        self.r = self.b * 2
        self.next(self.branches)

    @step
    def fan(self):
        self.parts = list(range(self.b))
        self.next(self.part, foreach="parts")

    @step
    def part(self):
        self.p = (self.b, self.input)
        self.next(self.parts_join)

    @step
    def parts_join(self, inputs):
        self.r = [inp.p for inp in inputs]
        self.next(self.branches)

    @step
    def branches(self, inputs):
        self.r = [inputs.plain.r, inputs.parts_join.r]
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.rs = [inp.r for inp in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SplitInForeachFlow()
