import os
import time

from metaflow import FlowSpec, Parameter, catch, current, environment, step


class AgainFlow(FlowSpec):
    """Its middle step waits while a file says so, and would be caught if it failed."""

    folder = Parameter("folder", required=True)
    text = Parameter("text", default="a")

    @step
    def start(self):
        self.next(self.work)

    @catch(var="problem")
    @step
    def work(self):
        with open(os.path.join(self.folder, "notes"), "a") as file:
            file.write(f"{current.retry_count}\n")
        while os.path.exists(os.path.join(self.folder, "hold")):
            time.sleep(0.1)
        self.worked = self.text
        self.next(self.end)

    @environment(vars={"MODE": "first"})
    @step
    def end(self):
        self.result = self.worked
        self.mode = os.environ["MODE"]


if __name__ == "__main__":
    AgainFlow()
