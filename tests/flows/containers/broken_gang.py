from metaflow import FlowSpec, current, kubernetes, parallel, step


class BrokenGangFlow(FlowSpec):
    """One node of a gang fails; the others would run for an hour."""

    @step
    def start(self):
        self.next(self.train, num_parallel=2)

    @kubernetes
    @parallel
    @step
    def train(self):
        import time

        if current.parallel.node_index == 1:
            raise ValueError("node one is broken")
        time.sleep(3600)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    BrokenGangFlow()
