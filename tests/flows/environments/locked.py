from metaflow import FlowSpec, step


class LockedFlow(FlowSpec):
    """Needs a package that the image lacks and the lock file beside it names."""

    @step
    def start(self):
        self.items = ["a", "b"]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        import greeting

        self.word = greeting.WORD + self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        import sys

        self.words = [one.word for one in inputs]
        self.isolated = sys.prefix != sys.base_prefix
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    LockedFlow()
