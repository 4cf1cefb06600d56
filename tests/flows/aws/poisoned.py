import os
import signal

from metaflow import FlowSpec, Parameter, S3, current, retry, step


class PoisonedFlow(FlowSpec):
    """A foreach of which some splits fail, each in its own way."""

    final = Parameter("final", default=False, help="Whether one of them says that another try is of no use.")

    @step
    def start(self):
        self.items = ["fine", "once", "killed", "fine"]
        if self.final:
            self.items[1] = "final"
        self.next(self.body, foreach="items")

    @retry(times=2, minutes_between_retries=0)
    @step
    def body(self):
        self.attempt = current.retry_count
        with S3(s3root="s3://flows/poisoned/%s" % current.run_id) as store:
            store.put("%s-%d" % (current.task_id, self.attempt), "")
        if self.input == "final":
            # As Metaflow's own code says it (METAFLOW_EXIT_DISALLOW_RETRY).
            os._exit(202)
        if self.input == "once" and self.attempt == 0:
            raise ValueError("not yet")
        if self.input == "killed" and self.attempt < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.attempts = [one.attempt for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    PoisonedFlow()
