import time

from metaflow import S3, FlowSpec, step


class WaitingFlow(FlowSpec):
    """Waits until an object of that name exists."""

    @step
    def start(self):
        with S3(run=self) as store:
            while not store.get("go", return_missing=True).exists:
                time.sleep(0.5)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    WaitingFlow()
