"""Decorators and cards of other extensions of Metaflow: the first try of a step fails after its checkpoint."""

from pathlib import Path

from metaflow import FlowSpec, card, checkpoint, current, retry, step


class SeveralExtensionsFlow(FlowSpec):
    @checkpoint
    @retry(times=1, minutes_between_retries=0)
    @step
    def start(self):
        file = Path(current.checkpoint.directory) / "count"
        self.loaded = file.read_text() if current.checkpoint.is_loaded else None
        self.attempt = current.retry_count
        if not self.attempt:
            file.write_text("7")
            current.checkpoint.save()
            raise ValueError("on purpose")
        self.next(self.report)

    @card(type="html")
    @step
    def report(self):
        self.html = "<p>of the card</p>"
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    SeveralExtensionsFlow()
