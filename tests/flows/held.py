import os
import time
from pathlib import Path

from metaflow import FlowSpec, Parameter, current, retry, step


class HeldFlow(FlowSpec):
    """The tasks of its foreach note that they have begun, and wait while a file says so."""

    folder = Parameter("folder", required=True)

    @step
    def start(self):
        self.items = list(range(6))
        self.next(self.work, foreach="items")

    @retry(times=2, minutes_between_retries=0)
    @step
    def work(self):
        with (Path(self.folder) / "notes").open("a") as file:
            file.write(f"{self.index} {current.retry_count} {os.uname().nodename}\n")
        while (Path(self.folder) / "hold").exists():
            time.sleep(0.1)
        self.value = self.input * 10
        self.next(self.join)

    @step
    def join(self, inputs):
        self.values = [one.value for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    HeldFlow()
