"""Read the result of the quickstart, in a notebook or a script."""

from metaflow import Flow, namespace

namespace(None)  # runs of everybody, not only your own
run = Flow("TrainingFlow").latest_successful_run
print(run.pathspec, run.data.model)
