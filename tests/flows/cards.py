from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.cards import Markdown


class CardsFlow(FlowSpec):
    """Makes a card."""

    title = Parameter("title", default="<b>bold</b>")

    @card(type="blank")
    @step
    def start(self):
        current.card.append(Markdown("# Scores of the start step"))
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    CardsFlow()
