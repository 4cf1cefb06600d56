"""A flow with a foreach, a nested foreach and a switch."""

from metaflow import FlowSpec, Parameter, step


class DemoFlow(FlowSpec):
    """Score models per region, look closer where that pays, and pick a winner."""

    regions = Parameter("regions", default="north,south,west", help="Regions, separated by commas.")
    threshold = Parameter("threshold", default=10, help="From which score on a region gets a report.")

    @step
    def start(self):
        """Fan out over the regions."""
        self.names = self.regions.split(",")
        self.next(self.region, foreach="names")

    @step
    def region(self):
        """Fan out over the models of one region."""
        self.name = self.input
        self.models = [f"{self.name}-{kind}" for kind in ("linear", "forest")]
        self.next(self.train, foreach="models")

    @step
    def train(self):
        """Train one model."""
        self.model = self.input
        self.score = sum(map(ord, self.model)) % 17
        print(f"{self.model} scores {self.score}")
        self.next(self.compare)

    @step
    def compare(self, inputs):
        """Find the best model of a region."""
        best = max(inputs, key=lambda task: task.score)
        self.best, self.score = best.model, best.score
        self.next(self.winners)

    @step
    def winners(self, inputs):
        """Find the best of all regions."""
        self.scores = {task.best: task.score for task in inputs}
        self.next(self.decide)

    @step
    def decide(self):
        """Take the way that the best score deserves."""
        self.verdict = "good" if max(self.scores.values()) >= self.threshold else "poor"
        self.next({"good": self.report, "poor": self.apologize}, condition="verdict")

    @step
    def report(self):
        """Tell the good news."""
        self.text = f"{max(self.scores, key=self.scores.get)} wins"
        self.next(self.end)

    @step
    def apologize(self):
        """Tell the bad news."""
        self.text = "no model is good enough"
        self.next(self.end)

    @step
    def end(self):
        """Done."""
        print(self.text)


if __name__ == "__main__":
    DemoFlow()
