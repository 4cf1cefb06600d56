import time

from metaflow import FlowSpec, S3, batch, current, retry, step


class PatientJobFlow(FlowSpec):
    """One job that waits until an object of that name exists, and says when it runs."""

    @retry(times=2, minutes_between_retries=0)
    @batch
    @step
    def start(self):
        self.attempt = current.retry_count
        with S3(run=self) as store:
            store.put(f"started-{self.attempt}", "")
            while not store.get("go", return_missing=True).exists:
                time.sleep(1)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    PatientJobFlow()
