"""Steps where they belong: the start on the worker, training in AWS Batch jobs, the evaluation in a pod."""

from metaflow import FlowSpec, Parameter, batch, kubernetes, resources, retry, step


class MixedComputeFlow(FlowSpec):
    """Fit one model a fold and keep the best."""

    folds = Parameter("folds", default=5, help="number of folds")

    @step
    def start(self):
        self.fold = list(range(self.folds))
        self.next(self.train, foreach="fold")

    @retry(times=2)
    @resources(cpu=2, memory=8192)
    @batch
    @step
    def train(self):
        self.score = 1 / (1 + self.input)
        self.next(self.evaluate)

    @kubernetes(memory=2048, labels={"team": "ml"})
    @step
    def evaluate(self, inputs):
        self.best = max(one.score for one in inputs)
        self.next(self.end)

    @step
    def end(self):
        print(f"The best score is {self.best}.")


if __name__ == "__main__":
    MixedComputeFlow()
