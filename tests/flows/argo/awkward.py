from metaflow import FlowSpec, Parameter, step


class AwkwardFlow(FlowSpec):
    """Names that are no labels of Kubernetes, and texts that Argo's controller takes for references."""

    text = Parameter("text", default='{{=1+}} {{ workflow.name }} {{=1+1}} "ü" {{', help="as in {{=Jinja")

    @step
    def start(self):
        self.seen = self.text
        self.next(self.import_)

    @step
    def import_(self):
        self.next(self.a_very_long_step_name_that_tells_everything_about_what_it_does_and_more)

    @step
    def a_very_long_step_name_that_tells_everything_about_what_it_does_and_more(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    AwkwardFlow()
