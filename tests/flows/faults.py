import hashlib
import time

from metaflow import FlowSpec, retry, step


class FaultsFlow(FlowSpec):
    '''A foreach whose splits take different branches, one of them with a foreach of its own.

    Each step takes a moment, so that what is killed at a random moment is often in the middle of one.
    '''

    def compute(self, *texts):
        time.sleep(0.5)
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    @retry(times=4, minutes_between_retries=0)
    @step
    def start(self):
        self.digest = self.compute("start")
        self.items = [0, 1, 2]
        self.next(self.decide, foreach="items")

    @retry(times=4, minutes_between_retries=0)
    @step
    def decide(self):
        self.digest = self.compute(self.digest, str(self.input))
        self.kind = "many" if self.input == 1 else "one"
        self.next({"one": self.one, "many": self.many}, condition="kind")

    @retry(times=4, minutes_between_retries=0)
    @step
    def one(self):
        self.digest = self.compute(self.digest, "one")
        self.next(self.collect)

    @retry(times=4, minutes_between_retries=0)
    @step
    def many(self):
        self.parts = ["a", "b"]
        self.next(self.part, foreach="parts")

    @retry(times=4, minutes_between_retries=0)
    @step
    def part(self):
        self.table = {self.input + str(number): number for number in range(1000)}
        self.digest = self.compute(self.digest, self.input)
        self.next(self.put_together)

    @retry(times=4, minutes_between_retries=0)
    @step
    def put_together(self, inputs):
        self.tables = [inp.table for inp in inputs]
        self.digest = self.compute(*(inp.digest for inp in inputs))
        self.next(self.collect)

    @retry(times=4, minutes_between_retries=0)
    @step
    def collect(self, inputs):
        # Metaflow's own scheduler orders these inputs by step, we by split.
        self.digests = sorted(inp.digest for inp in inputs)
        self.digest = self.compute(*self.digests)
        self.next(self.end)

    @retry(times=4, minutes_between_retries=0)
    @step
    def end(self):
        self.digest = self.compute(self.digest)


if __name__ == "__main__":
    FaultsFlow()
