"""A flow that starts when another has finished, and a hook that reports its end."""

from metaflow import FlowSpec, current, exit_hook, step, trigger_on_finish


def report(run):
    print(f"{run.pathspec} has ended")


@trigger_on_finish(flow="DemoFlow")
@exit_hook(on_success=[report], on_error=[report])
class AfterDemoFlow(FlowSpec):
    """Look at what the demo has made."""

    @step
    def start(self):
        self.upstream = current.trigger.run.pathspec
        self.next(self.end)

    @step
    def end(self):
        print(f"after {self.upstream}")


if __name__ == "__main__":
    AfterDemoFlow()
