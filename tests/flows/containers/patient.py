import os
import time

from metaflow import FlowSpec, S3, current, kubernetes, retry, step


class PatientFlow(FlowSpec):
    """One pod that waits until an object of that name exists, and says when it runs."""

    @retry(times=2, minutes_between_retries=0)
    @kubernetes
    @step
    def start(self):
        self.attempt = current.retry_count
        self.pod = os.environ["METAFLOW_KUBERNETES_POD_NAME"]
        with S3(run=self) as store:
            store.put(f"started-{self.attempt}", self.pod)
            while not store.get("go", return_missing=True).exists:
                time.sleep(1)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    PatientFlow()
