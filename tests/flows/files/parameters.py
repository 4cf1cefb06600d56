import json
import os

from metaflow import FlowSpec, IncludeFile, JSONType, Parameter, step


def deploy_time(context):
    # A second evaluation, at run time, would tell another process.
    return f"deployed by {os.getpid()}"


class ParametersFlow(FlowSpec):
    number = Parameter("number", default=3, help="A number.")
    ratio = Parameter("ratio", default=0.5)
    flag = Parameter("flag", default=False)
    text = Parameter("text", default="plain")
    nothing = Parameter("nothing", default=None)
    config = Parameter("config", type=JSONType, default='{"a": [1, 2]}')
    late = Parameter("late", default=deploy_time)
    required = Parameter("required", required=True, help="Must be given.")
    dag_run = Parameter("dag_run", default="mine")
    conf = Parameter("conf", default="conf")
    retry_count = Parameter("retry_count", default=9)
    dashed = Parameter("with-dash", default="d")
    notes = IncludeFile("notes", default="notes.txt")

    @step
    def start(self):
        self.seen = {
            "number": self.number,
            "ratio": self.ratio,
            "flag": self.flag,
            "text": self.text,
            "nothing": self.nothing,
            "config": self.config,
            "required": self.required,
            "dag_run": self.dag_run,
            "conf": self.conf,
            "retry_count": self.retry_count,
            "dashed": self.dashed,
            "notes": self.notes,
        }
        # A file that is no code, beside the flow, by relative name.
        with open("beside.json") as file:
            self.beside = json.load(file)
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    ParametersFlow()
