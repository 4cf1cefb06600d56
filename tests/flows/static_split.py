from metaflow import FlowSpec, step


class StaticSplitFlow(FlowSpec):
    '''A split, a split inside one of its branches, and a longer other branch.'''

    @step
    def start(self):
        self.next(self.zeta, self.alpha)

    @step
    def zeta(self):
        self.v = "zeta"
        self.next(self.left, self.right)

    @step
    def left(self):
        self.w = self.v + "-left"
        self.next(self.inner)

    @step
    def right(self):
        self.w = self.v + "-right"
        self.next(self.inner)

    @step
    def inner(self, inputs):
        self.v = [inputs.left.w, inputs.right.w]
        self.next(self.outer)

    @step
    def alpha(self):
        self.v = "alpha"
        self.next(self.alpha2)

    @step
    def alpha2(self):
        self.v += "2"
        self.next(self.outer)

    @step
    def outer(self, inputs):
        self.result = [inputs.inner.v, inputs.alpha2.v]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    StaticSplitFlow()
