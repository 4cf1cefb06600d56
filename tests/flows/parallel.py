from metaflow import FlowSpec, current, parallel, step


class ParallelFlow(FlowSpec):
    '''A gang of three, and one inside a foreach.'''

    @step
    def start(self):
        self.next(self.train, num_parallel=3)

    @parallel
    @step
    def train(self):
        self.node = (current.parallel.node_index, current.parallel.num_nodes)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.nodes = sorted(inp.node for inp in inputs)
        self.next(self.fan)

    @step
    def fan(self):
        self.items = ["a", "b"]
        self.next(self.body, foreach="items")

    @step
    def body(self):
        self.name = self.input
        self.next(self.gang, num_parallel=2)

    @parallel
    @step
    def gang(self):
        self.g = f"{self.name}{current.parallel.node_index}"
        self.next(self.gang_join)

    @step
    def gang_join(self, inputs):
        self.gs = sorted(inp.g for inp in inputs)
        self.merge_artifacts(inputs, include=["nodes"])
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.all = [inp.gs for inp in inputs]
        self.merge_artifacts(inputs, include=["nodes"])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ParallelFlow()
