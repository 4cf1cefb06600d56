"""A flow whose steps store the parameters that they see, and one of whose splits fails if it is asked to."""

from __future__ import annotations

from metaflow import FlowSpec, JSONType, Parameter, current, step


class ResumedFlow(FlowSpec):
    alpha = Parameter("alpha", default=1)
    deep_size = Parameter("deep-size", type=JSONType, default="[10, 20]")
    unlucky = Parameter("unlucky", default=False)
    untouched = Parameter("untouched", default="default")

    constant = 7

    @step
    def start(self):
        self.of_start = self.alpha
        self.next(self.body, foreach="deep_size")

    @step
    def body(self):
        if self.unlucky and self.input == 20:
            raise ValueError("an unlucky split")
        self.of_body = (self.alpha, self.input)
        self.next(self.collect)

    @step
    def collect(self, inputs):
        self.merge_artifacts(inputs, exclude=["of_body"])
        self.bodies = [one.of_body for one in inputs]
        self.of_collect = self.alpha
        self.through_inputs = [one.alpha for one in inputs]
        self.next(self.end)

    @step
    def end(self):
        self.of_end = (self.alpha, self.deep_size, self.unlucky, self.untouched, self.constant)
        self.origin = current.origin_run_id


if __name__ == "__main__":
    ResumedFlow()
