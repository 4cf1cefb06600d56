import os

from metaflow import FlowSpec, batch, retry, step


class FailingJobFlow(FlowSpec):
    """A job that says that it must not be tried again."""

    @retry(times=2, minutes_between_retries=0)
    @batch
    @step
    def start(self):
        os._exit(202)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    FailingJobFlow()
