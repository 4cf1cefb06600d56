from metaflow import FlowSpec, current, step, trigger_on_finish


@trigger_on_finish(flow="UpstreamFlow")
class OnFinishFlow(FlowSpec):
    @step
    def start(self):
        self.seen = [(event.name, event.type, event.id) for event in current.trigger.events]
        self.upstream = current.trigger.run.pathspec
        self.result = current.trigger.run.data.result
        self.next(self.end)

    @step
    def end(self):
        self.still = current.trigger.run.pathspec


if __name__ == "__main__":
    OnFinishFlow()
