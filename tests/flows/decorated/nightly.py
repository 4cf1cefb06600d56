from metaflow import FlowSpec, JSONType, Parameter, exit_hook, project, schedule, step


def succeeded(run):
    print("succeeded", run)


def failed():
    print("failed")


@project(name="market")
@schedule(cron="30 6 ? * MON-FRI *", timezone="Europe/Berlin")
@exit_hook(on_success=[succeeded], on_error=[failed, "builtins.print"])
class NightlyFlow(FlowSpec):
    """A scheduled flow of a project that reports its end."""

    size = Parameter("size", default=2)
    exact = Parameter("exact", default=True, help="whether to round")
    settings = Parameter("settings", type=JSONType, default='{"depth": 3}')
    note = Parameter("note", default=None)
    regions = Parameter("regions", separator=",", default="eu,us")

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    NightlyFlow()
