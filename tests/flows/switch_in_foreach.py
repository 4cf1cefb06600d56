from metaflow import FlowSpec, step


class SwitchInForeachFlow(FlowSpec):
    '''A switch inside a foreach whose cases lead straight into the join, one of them with a foreach of its own.'''

    @step
    def start(self):
        # One case first and last, with a foreach of unequal size each time, and the others between.
        self.items = [2, 0, 1, 5]
        self.next(self.decide, foreach="items")

    @step
    def decide(self):
        self.n = self.input
        self.kind = ["even", "odd", "many"][self.n % 3]
        self.next({"even": self.even, "odd": self.odd, "many": self.many}, condition="kind")

    @step
    def even(self):
        self.r = f"even{self.n}"
        self.next(self.collect)

    @step
    def odd(self):
        self.r = f"odd{self.n}"
        self.next(self.odd2)

    @step
    def odd2(self):
        self.r += "+"
        self.next(self.collect)

    @step
    def many(self):
        self.parts = list(range(self.n // 2))
        self.next(self.part, foreach="parts")

    @step
    def part(self):
        self.p = self.input * self.n
        self.next(self.parts_join)

    @step
    def parts_join(self, inputs):
        self.r = [inp.p for inp in inputs]
        self.next(self.collect)

    @step
    def collect(self, inputs):
        # Metaflow's own scheduler orders these inputs by step, we by split.
        self.rs = sorted(str(inp.r) for inp in inputs)
        print("order:", ",".join(str(inp.r) for inp in inputs))
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SwitchInForeachFlow()
