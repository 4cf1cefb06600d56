import os

from metaflow import FlowSpec, S3, current, retry, step


class StubbornFlow(FlowSpec):
    """A step that says that another try is of no use."""

    @retry(times=3, minutes_between_retries=0)
    @step
    def start(self):
        with S3(s3root="s3://flows/stubborn/%s" % current.run_id) as store:
            store.put("try-%d" % current.retry_count, "")
        os._exit(202)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    StubbornFlow()
