"""A package index on this machine (PEP 503): what Metaflow needs in an environment, and packages of the tests' own."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_METAFLOW_NEEDS = ("boto3", "requests")


@contextmanager
def package_index(host: str, folder: Path, own: dict[str, str]) -> Iterator[str]:
    """Serve the packages, and those of `own` (source by name), and yield the index's URL."""
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels), "--only-binary=:all:"]
    # For the Python of the steps' image.
    command += ["--python-version", "3.11", "--platform", "manylinux2014_x86_64", *_METAFLOW_NEEDS]
    subprocess.run(command, check=True)
    for name, source in own.items():
        _write_wheel(wheels, name, source)
    for wheel in wheels.iterdir():
        # The index knows packages by their normalized names.
        home = folder / "root/simple" / wheel.name.split("-")[0].replace("_", "-").replace(".", "-").lower()
        home.mkdir(parents=True, exist_ok=True)
        wheel.rename(home / wheel.name)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder / "root"))
    server = ThreadingHTTPServer((host, 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()


def _write_wheel(folder: Path, name: str, source: str) -> None:
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))
