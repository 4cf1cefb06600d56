import os
import signal

from metaflow import FlowSpec, card, catch, current, environment, retry, secrets, step


class DecoratedFlow(FlowSpec):
    """One branch per decorator, without a time limit: pods have none below a minute."""

    @step
    def start(self):
        self.next(self.retried, self.caught, self.killed, self.surrounded)

    @retry(times=2, minutes_between_retries=0)
    @step
    def retried(self):
        self.attempt = current.retry_count
        if self.attempt < 2:
            raise ValueError("not yet")
        self.next(self.meet)

    @catch(var="problem")
    @retry(times=1, minutes_between_retries=0)
    @step
    def caught(self):
        raise ValueError("never")
        self.next(self.meet)

    @catch(var="problem", print_exception=False)
    @retry(times=0, minutes_between_retries=0)
    @step
    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.meet)

    @environment(vars={"COLOUR": "grün $HOME {{workflow.name}} $(HOME)"})
    @secrets(sources=[{"type": "inline", "id": "test", "options": {"env_vars": {"PASSWORD": "hush"}}}])
    @step
    def surrounded(self):
        self.colour, self.length = os.environ["COLOUR"], len(os.environ["PASSWORD"])
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.attempt = inputs.retried.attempt
        self.problems = [str(inputs.caught.problem), str(inputs.killed.problem)]
        self.colour, self.length = inputs.surrounded.colour, inputs.surrounded.length
        self.next(self.end)

    @card(type="blank")
    @step
    def end(self):
        pass


if __name__ == "__main__":
    DecoratedFlow()
