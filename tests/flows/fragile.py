import os
import time

from metaflow import FlowSpec, Parameter, catch, current, retry, step


class FragileFlow(FlowSpec):
    """Fails, hangs or counts, as files in a folder say."""

    folder = Parameter("folder", required=True)

    def note(self, text):
        with open(os.path.join(self.folder, "notes"), "a") as file:
            file.write(f"{current.step_name} {text} {current.retry_count}\n")

    @step
    def start(self):
        self.items = list(range(12))
        self.note("ran")
        self.next(self.body, foreach="items")

    @retry(times=1, minutes_between_retries=0)
    @step
    def body(self):
        self.note(str(self.input))
        if self.input in (3, 7) and current.retry_count == 0:
            raise ValueError("once")
        self.v = self.input * 2
        self.left = 3
        self.next(self.drain)

    @retry(times=1, minutes_between_retries=0)
    @step
    def drain(self):
        self.left -= 1
        self.note(f"{self.v} {self.left}")
        if (self.v, self.left) == (10, 1) and current.retry_count == 0:
            raise ValueError("once, in the second round")
        self.level = "some" if self.left else "empty"
        self.next({"some": self.drain, "empty": self.drained}, condition="level")

    @step
    def drained(self):
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.vs = [inp.v for inp in inputs]
        self.note("ran")
        self.rounds = 0
        self.next(self.loop)

    @retry(times=1, minutes_between_retries=0)
    @step
    def loop(self):
        self.rounds += 1
        self.note(str(self.rounds))
        if self.rounds == 3 and current.retry_count == 0:
            raise ValueError("in the third round")
        self.state = "more" if self.rounds < 5 else "done"
        self.next({"more": self.loop, "done": self.hang}, condition="state")

    @step
    def hang(self):
        self.note(f"pid {os.getpid()}")
        while os.path.exists(os.path.join(self.folder, "hang")):
            time.sleep(0.1)
        self.stamp = time.time()
        self.next(self.end)

    @catch(var="problem")
    @step
    def end(self):
        if os.path.exists(os.path.join(self.folder, "break")):
            raise ValueError("broken on purpose")


if __name__ == "__main__":
    FragileFlow()
