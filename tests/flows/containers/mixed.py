import os

from metaflow import FlowSpec, Parameter, current, environment, kubernetes, resources, step


class MixedFlow(FlowSpec):
    """Starts on the worker, fans out to pods, and comes back."""

    greeting = Parameter("greeting", default="$(HOME) {{ ti }} `id`")

    @step
    def start(self):
        self.items = ["a", "b"]
        self.place = os.environ.get("METAFLOW_RUNTIME_ENVIRONMENT")
        self.next(self.work, foreach="items")

    @environment(vars={"COLOUR": "$(PATH) blue"})
    @resources(memory=200)
    @kubernetes(labels={"team": "tests"}, annotations={"note": "n"}, shared_memory=16, use_tmpfs=True, tmpfs_size=8)
    @step
    def work(self):
        self.place = os.environ["METAFLOW_RUNTIME_ENVIRONMENT"]
        self.colour = os.environ["COLOUR"]
        self.word = self.input + self.greeting
        self.shared_memory = os.path.ismount("/dev/shm")
        self.tempdir = current.tempdir
        self.extra = os.environ.get("EXTRA")
        print("working on", self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.words = [one.word for one in inputs]
        self.places = [one.place for one in inputs]
        self.merge_artifacts(inputs, include=["colour", "shared_memory", "tempdir", "extra"])
        self.rounds = 0
        self.next(self.loop)

    @kubernetes
    @step
    def loop(self):
        self.rounds += 1
        self.state = "more" if self.rounds < 2 else "done"
        self.next({"more": self.loop, "done": self.end}, condition="state")

    @step
    def end(self):
        pass


if __name__ == "__main__":
    MixedFlow()
