"""A flow with a schedule in the zone of its users."""

from metaflow import FlowSpec, schedule, step


@schedule(cron="30 6 ? * MON-FRI *", timezone="Europe/Berlin")
class ScheduledFlow(FlowSpec):
    """Runs at half past six on working days."""

    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ScheduledFlow()
