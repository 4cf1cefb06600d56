"""moto's server, the layer that refuses what AWS would, and our Batch jobs: `python -m tests.engines.aws.server …`.

Arguments are host, port, and the folder with the files of `shared.py`. The access key of its own environment is the
administrator's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    host, port, folder = sys.argv[1:]
    # moto's services call each other here.
    os.environ["MOTO_PORT"] = port
    from moto import server
    from moto.core.config import default_user_config

    from tests.engines.aws import batch_jobs, enforcement, machines, objects, rules, states
    from tests.engines.aws.gate import Gate
    from tests.engines.aws.shared import AUTHORITY, THROTTLE, SharedAuthority, SharedThrottle

    # Off by default: executions then run nothing.
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    for engine in (batch_jobs, objects, states, rules, machines):
        engine.install()
    authority = SharedAuthority(Path(folder, AUTHORITY))
    enforced = enforcement.Enforcement(authority, SharedThrottle(Path(folder, THROTTLE)))
    enforcement.install(enforced)
    dispatcher, administrator = server.DomainDispatcherApplication, os.environ["AWS_ACCESS_KEY_ID"]
    server.DomainDispatcherApplication = lambda create: Gate(  # type: ignore[assignment, misc]
        dispatcher(create), enforced, authority, administrator
    )
    server.main(["-H", host, "-p", port])


if __name__ == "__main__":
    main()
