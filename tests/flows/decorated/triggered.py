from metaflow import FlowSpec, Parameter, current, project, step, trigger


@project(name="market")
@trigger(
    events=[
        {"name": "data.ready", "parameters": {"day": "date", "exact": "is_exact"}},
        {"name": "model.ready", "parameters": ["model"]},
    ]
)
class TriggeredFlow(FlowSpec):
    """Waits for two events, whose payloads it takes for its parameters."""

    day = Parameter("day", required=True)
    exact = Parameter("exact", type=bool, default=False)
    model = Parameter("model", default="linear")

    @step
    def start(self):
        self.names = [event.name for event in current.trigger.events]
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    TriggeredFlow()
