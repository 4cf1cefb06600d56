from metaflow import FlowSpec, Parameter, catch, current, environment, retry, step


class FeaturedFlow(FlowSpec):
    """Most of what a state machine is made of, in few tasks."""

    size = Parameter("size", default=1)

    @step
    def start(self):
        self.next(self.fan, self.decide)

    @step
    def fan(self):
        self.items = list(range(self.size))
        self.next(self.work, foreach="items")

    @environment(vars={"COLOUR": "grün"})
    @retry(times=1, minutes_between_retries=0)
    @step
    def work(self):
        import os

        if self.index == 1 and current.retry_count == 0:
            raise ValueError("only the second try works")
        self.found = (self.input * 10, os.environ["COLOUR"], current.retry_count)
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.found = sorted(one.found for one in inputs)
        self.next(self.meet)

    @step
    def decide(self):
        self.way = "unlucky" if self.size > 1 else "plain"
        self.next({"unlucky": self.unlucky, "plain": self.plain}, condition="way")

    @catch(var="problem", print_exception=False)
    @step
    def unlucky(self):
        raise ValueError("never works")
        self.next(self.reunite)

    @step
    def plain(self):
        self.problem = None
        self.next(self.reunite)

    @step
    def reunite(self):
        self.caught = "never works" in str(self.problem)
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.found, self.caught = inputs.gather.found, inputs.reunite.caught
        self.next(self.end)

    @step
    def end(self):
        self.done = True


if __name__ == "__main__":
    FeaturedFlow()
