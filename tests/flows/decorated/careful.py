from metaflow import FlowSpec, Parameter, catch, environment, parallel, resources, retry, secrets, step, timeout

SECRETS = [{"type": "inline", "id": "test", "options": {"env_vars": {"PASSWORD": "hush"}}}]


class CarefulFlow(FlowSpec):
    """Decorators of steps that say nothing of where a step runs."""

    alpha = Parameter("alpha", default=0.5, help="weight of the first model")

    @retry(times=3, minutes_between_retries=2)
    @timeout(minutes=5)
    @step
    def start(self):
        self.items = ["a", "b"]
        self.next(self.fit, foreach="items")

    @retry(times=1, minutes_between_retries=0)
    @catch(var="problem")
    @timeout(hours=1, seconds=30)
    @resources(cpu=2, memory=9000, gpu=1, shared_memory=64)
    @environment(vars={"COLOUR": "gr\u00fcn $HOME {{workflow.name}} $(HOME)", "NUMBER": 7})
    @step
    def fit(self):
        self.next(self.gather)

    @catch(var="problem", print_exception=False)
    @step
    def gather(self, inputs):
        self.next(self.fan)

    @secrets(sources=SECRETS)
    @step
    def fan(self):
        self.next(self.train, num_parallel=3)

    @retry(times=2, minutes_between_retries=1)
    @timeout(minutes=90)
    @environment(vars={"BACKEND": "gloo"})
    @resources(cpu=3, memory=5000)
    @parallel
    @step
    def train(self):
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CarefulFlow()
