"""A flow that starts on an event, and takes a parameter from it."""

from metaflow import FlowSpec, Parameter, current, step, trigger


@trigger(event={"name": "orders.new", "parameters": {"order": "id"}})
class OnOrderFlow(FlowSpec):
    """Handle one order."""

    order = Parameter("order", type=int, required=True, help="Number of the order.")

    @step
    def start(self):
        self.event = current.trigger.event.name if current.get("trigger") else None
        self.next(self.end)

    @step
    def end(self):
        print(f"order {self.order} is done")


if __name__ == "__main__":
    OnOrderFlow()
