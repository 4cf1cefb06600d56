import os
import signal
import sys
import time

from metaflow import FlowSpec, card, catch, current, environment, resources, retry, secrets, step, timeout
from metaflow.cards import Markdown


class DecoratorsFlow(FlowSpec):
    """One branch per decorator."""

    @step
    def start(self):
        self.next(
            self.retried,
            self.caught,
            self.killed,
            self.late,
            self.with_environment,
            self.with_secrets,
            self.with_card,
            self.chatty,
        )

    @retry(times=2, minutes_between_retries=0)
    @step
    def retried(self):
        self.attempt = current.retry_count
        print("attempt", self.attempt)
        if self.attempt < 2:
            raise ValueError("not yet")
        self.next(self.meet)

    @catch(var="problem")
    @retry(times=1, minutes_between_retries=0)
    @step
    def caught(self):
        self.attempt = current.retry_count
        raise ValueError("never")
        self.next(self.meet)

    @catch(var="problem", print_exception=False)
    @retry(times=1, minutes_between_retries=0)
    @step
    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.meet)

    @catch(var="problem", print_exception=False)
    @retry(times=0, minutes_between_retries=0)
    @timeout(seconds=1)
    @step
    def late(self):
        time.sleep(60)
        self.next(self.meet)

    @environment(vars={"COLOUR": "gr\u00fcn $HOME {{ ds }}", "NUMBER": 7})
    @step
    def with_environment(self):
        self.colour = os.environ["COLOUR"], os.environ["NUMBER"]
        self.next(self.meet)

    @secrets(sources=[{"type": "inline", "id": "test", "options": {"env_vars": {"PASSWORD": "hush"}}}])
    @step
    def with_secrets(self):
        self.length = len(os.environ["PASSWORD"])
        self.next(self.meet)

    @card
    @resources(cpu=2, memory=9000)
    @step
    def with_card(self):
        current.card.append(Markdown("# seen on the card"))
        self.next(self.meet)

    @step
    def chatty(self):
        for number in range(300):
            print("out", number)
        for number in range(100):
            print("err", number, file=sys.stderr)
        sys.stdout.write("no newline at the end")
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.attempt = inputs.retried.attempt
        self.problems = [str(inputs.caught.problem), str(inputs.killed.problem), str(inputs.late.problem)]
        self.colour = inputs.with_environment.colour
        self.length = inputs.with_secrets.length
        self.next(self.end)

    @step
    def end(self):
        self.seen = sorted(name for name in os.environ if name.startswith("AIRFLOW_CTX_DAG"))


if __name__ == "__main__":
    DecoratorsFlow()
