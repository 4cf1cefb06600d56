from metaflow import FlowSpec, Parameter, step


class RecursionFlow(FlowSpec):
    '''A recursive switch, alone and inside a foreach.'''

    rounds = Parameter("rounds", default=3)

    @step
    def start(self):
        self.count = 0
        self.next(self.loop)

    @step
    def loop(self):
        self.count += 1
        self.more = "again" if self.count < self.rounds else "done"
        self.next({"again": self.loop, "done": self.fan}, condition="more")

    @step
    def fan(self):
        self.items = [1, 3]
        self.next(self.prepare, foreach="items")

    @step
    def prepare(self):
        self.left = self.input
        self.seen = []
        self.next(self.drain)

    @step
    def drain(self):
        self.seen = self.seen + [self.left]
        self.left -= 1
        self.state = "more" if self.left else "empty"
        self.next({"more": self.drain, "empty": self.drained}, condition="state")

    @step
    def drained(self):
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.all = [inp.seen for inp in inputs]
        self.count = inputs[0].count
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    RecursionFlow()
