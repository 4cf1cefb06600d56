import time

from metaflow import FlowSpec, S3, current, kubernetes, parallel, step


class PatientGangFlow(FlowSpec):
    """A gang of two that says when it runs, and then never ends."""

    @kubernetes
    @step
    def start(self):
        self.next(self.train, num_parallel=2)

    @kubernetes
    @parallel
    @step
    def train(self):
        with S3(run=self) as store:
            print(f"node {current.parallel.node_index} runs", flush=True)
            store.put(f"started-{current.parallel.node_index}", "now")
        time.sleep(3600)
        self.next(self.join)

    @kubernetes
    @step
    def join(self, inputs):
        self.next(self.end)

    @kubernetes
    @step
    def end(self):
        pass


if __name__ == "__main__":
    PatientGangFlow()
