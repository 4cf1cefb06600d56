"""moto's server with our Batch jobs: `python -m tests.engines.aws.server HOST PORT`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    host, port = sys.argv[1:]
    # moto's services call each other here.
    os.environ["MOTO_PORT"] = port
    from tests.engines.aws.batch_jobs import install

    install()
    from moto.server import main as serve

    serve(["-H", host, "-p", port])


if __name__ == "__main__":
    main()
