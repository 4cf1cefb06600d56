"""The flow of the quickstart: train one model per value of a foreach, keep the best."""

from metaflow import FlowSpec, Parameter, step


class TrainingFlow(FlowSpec):
    """Fit a line with several learning rates and keep the best fit."""

    updates = Parameter("updates", default=50, help="Number of updates per model.")

    @step
    def start(self):
        self.points = [(x, 3 * x + 1) for x in range(10)]
        self.rates = [0.001, 0.01, 0.02]
        self.next(self.train, foreach="rates")

    @step
    def train(self):
        slope = intercept = 0.0
        for _ in range(self.updates):
            errors = [(slope * x + intercept - y, x) for x, y in self.points]
            slope -= self.input * sum(error * x for error, x in errors) / len(errors)
            intercept -= self.input * sum(error for error, _ in errors) / len(errors)
        self.loss = sum((slope * x + intercept - y) ** 2 for x, y in self.points)
        self.model = {"rate": self.input, "slope": slope, "intercept": intercept}
        print(f"learning rate {self.input}: loss {self.loss:.4f}")
        self.next(self.join)

    @step
    def join(self, inputs):
        best = min(inputs, key=lambda task: task.loss)
        self.model, self.loss = best.model, best.loss
        self.next(self.end)

    @step
    def end(self):
        print(f"The best model is {self.model}")


if __name__ == "__main__":
    TrainingFlow()
