from pathlib import Path

from metaflow import FlowSpec, Parameter, step


class UndecidedFlow(FlowSpec):
    '''A switch inside a foreach that takes the other case when it runs again; for the clearing of tasks.'''

    folder = Parameter("folder", help="The case of each index: the content of the file of its name.")

    @step
    def start(self):
        self.items = [0, 1, 2]
        self.next(self.decide, foreach="items")

    @step
    def decide(self):
        self.case = Path(self.folder, str(self.input)).read_text()
        self.next({"short": self.short, "long": self.long}, condition="case")

    @step
    def short(self):
        self.r = f"short{self.input}"
        self.next(self.collect)

    @step
    def long(self):
        self.next(self.longer)

    @step
    def longer(self):
        self.r = f"long{self.input}"
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.rs = [inp.r for inp in inputs]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    UndecidedFlow()
