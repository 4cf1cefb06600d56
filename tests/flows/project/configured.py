import os

from metaflow import Config, FlowMutator, FlowSpec, config_expr, current, environment, project, step, user_step_decorator


@user_step_decorator
def noted(step_name, flow, inputs=None, attributes=None):
    flow.notes = [f"before {step_name}"]
    yield
    flow.notes = flow.notes + [f"after {step_name}"]


class add_variable(FlowMutator):
    """Give the end step a variable."""

    def mutate(self, mutable_flow):
        for name, mutable_step in mutable_flow.steps:
            if name == "end":
                mutable_step.add_decorator("environment", deco_kwargs={"vars": {"MUTATED": "yes"}})


@add_variable
@project(name="testproject")
class ConfiguredFlow(FlowSpec):
    settings = Config("settings", default="settings.json")

    @environment(vars={"LEVEL": config_expr("settings.level")})
    @noted
    @step
    def start(self):
        self.level = os.environ["LEVEL"]
        self.threshold = self.settings.threshold
        self.branch = current.branch_name
        self.production = current.is_production
        self.user = current.username
        self.way = self.settings.way
        self.next({self.settings.first: self.first, self.settings.second: self.second}, condition="way")

    @step
    def first(self):
        self.taken = "first"
        self.next(self.end)

    @step
    def second(self):
        self.taken = "second"
        self.next(self.end)

    @step
    def end(self):
        self.mutated = os.environ["MUTATED"]


if __name__ == "__main__":
    ConfiguredFlow()
