"""moto's server with our Batch jobs and mends of its Step Functions: `python -m tests.engines.aws.server HOST PORT`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    host, port = sys.argv[1:]
    # moto's services call each other here.
    os.environ["MOTO_PORT"] = port
    from moto.core.config import default_user_config

    from tests.engines.aws import batch_jobs, rules, states

    # Off by default: executions then run nothing.
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    for engine in (batch_jobs, states, rules):
        engine.install()
    from moto.server import main as serve

    serve(["-H", host, "-p", port])


if __name__ == "__main__":
    main()
