from metaflow import FlowSpec, JSONType, Parameter, current, step, trigger


def name_at_deploy_time(context):
    return f"tests.{context.flow_name}"


@trigger(event={"name": name_at_deploy_time, "parameters": {"alpha": "size", "text": "text", "table": "table"}})
class OnEventFlow(FlowSpec):
    alpha = Parameter("alpha", type=float, required=True)
    text = Parameter("text", default="plain")
    table = Parameter("table", type=JSONType, default="{}")
    untouched = Parameter("untouched", default=5)

    @step
    def start(self):
        self.seen = (self.alpha, self.text, self.table, self.untouched)
        self.event = tuple(current.trigger.event) if current.get("trigger") else None
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    OnEventFlow()
