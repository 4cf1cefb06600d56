import os

from metaflow import FlowSpec, kubernetes, retry, step


class TroublesFlow(FlowSpec):
    """One branch per way in which a pod fails; start and join run on the worker."""

    @step
    def start(self):
        self.next(self.hungry, self.homeless, self.imageless, self.hopeless, self.clumsy, self.elsewhere)

    @kubernetes(qos="guaranteed", memory=160, disk=500)
    @step
    def hungry(self):
        self.ballast = bytearray(os.urandom(1024)) * 500_000
        self.next(self.meet)

    @kubernetes(cpu=500)
    @step
    def homeless(self):
        self.next(self.meet)

    @kubernetes(image="local/none:1")
    @step
    def imageless(self):
        self.next(self.meet)

    @retry(times=2, minutes_between_retries=0)
    @kubernetes
    @step
    def hopeless(self):
        os._exit(202)
        self.next(self.meet)

    @kubernetes
    @step
    def clumsy(self):
        raise ValueError("too clumsy")
        self.next(self.meet)

    @kubernetes(namespace="default")
    @step
    def elsewhere(self):
        self.next(self.meet)

    @step
    def meet(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    TroublesFlow()
