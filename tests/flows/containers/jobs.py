import os

from metaflow import FlowSpec, batch, parallel, resources, step


class JobsFlow(FlowSpec):
    """A wide foreach of one step as an array job, and a gang as a multi-node job; the rest runs on the worker."""

    @step
    def start(self):
        self.items = list(range(4))
        self.next(self.square, foreach="items")

    @resources(memory=512)
    @batch(shared_memory=8)
    @step
    def square(self):
        self.result = self.input**2
        self.job = os.environ["AWS_BATCH_JOB_ID"]
        self.next(self.join)

    @step
    def join(self, inputs):
        self.results = [one.result for one in inputs]
        self.jobs = sorted({one.job.split(":")[0] for one in inputs})
        self.next(self.fan)

    @step
    def fan(self):
        self.next(self.train, num_parallel=3)

    @batch
    @parallel
    @step
    def train(self):
        from metaflow import current

        self.node = (current.parallel.node_index, current.parallel.num_nodes)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.nodes = sorted(one.node for one in inputs)
        self.merge_artifacts(inputs, include=["results", "jobs"])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    JobsFlow()
