import os
import time

from metaflow import FlowSpec, Parameter, exit_hook, step


def note(text):
    with open(os.environ["HOOK_NOTES"], "a") as file:
        file.write(text + "\n")


def succeeded(run):
    note(f"succeeded {run.pathspec} {run.successful} {run.data.done}")


def failed(run):
    note(f"failed {run.pathspec} {run.finished} {sorted(step.id for step in run)}")


def broken():
    note("broken")
    raise ValueError("the hook itself fails")


@exit_hook(on_success=[succeeded, broken], on_error=[failed])
class HookedFlow(FlowSpec):
    fails = Parameter("fails", default=False)

    @step
    def start(self):
        self.next(self.quick, self.slow)

    @step
    def quick(self):
        if self.fails:
            raise ValueError("on purpose")
        self.next(self.join)

    @step
    def slow(self):
        time.sleep(3)
        note("slow is done")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.done = True
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    HookedFlow()
