from metaflow import FlowSpec, Parameter, project, step, trigger_on_finish


@project(name="market")
@trigger_on_finish(flows=["UpstreamFlow", {"name": "OtherFlow", "project": "finance", "project_branch": "prod"}])
class OnFinishFlow(FlowSpec):
    """Waits for the end of two flows, one of its own project and branch and one of another."""

    size = Parameter("size", default=2)

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    OnFinishFlow()
