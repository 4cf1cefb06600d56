from metaflow import FlowSpec, step


class LinearFlow(FlowSpec):
    '''Three steps in a row.'''

    @step
    def start(self):
        self.trace = ["start"]
        self.next(self.middle)

    @step
    def middle(self):
        self.trace = self.trace + ["middle"]
        self.next(self.end)

    @step
    def end(self):
        self.trace = self.trace + ["end"]


if __name__ == "__main__":
    LinearFlow()
