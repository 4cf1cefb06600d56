from metaflow import FlowSpec, Parameter, step


class SwitchInSplitFlow(FlowSpec):
    '''A switch inside a branch of a split, whose cases enter the join of the split; and a foreach in a switch case.'''

    wide = Parameter("wide", default=True)

    @step
    def start(self):
        self.next(self.decide, self.other)

    @step
    def decide(self):
        self.kind = "fan" if self.wide else "plain"
        self.next({"fan": self.fan, "plain": self.plain}, condition="kind")

    @step
    def fan(self):
        self.items = [1, 2]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.b = self.input**2
        self.next(self.fan_join)

    @step
    def fan_join(self, inputs):
        self.v = [inp.b for inp in inputs]
        self.next(self.meet)

    @step
    def plain(self):
        self.v = "plain"
        self.next(self.meet)

    @step
    def other(self):
        self.v = "other"
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.vs = sorted(str(inp.v) for inp in inputs)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SwitchInSplitFlow()
