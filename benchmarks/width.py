"""What a foreach costs each orchestrator, by its width: the plot of docs/performance.md.

    python benchmarks/width.py               # writes results/width.json, docs/width.svg, and docs/width.png with Chromium

The curves are what `check` counts for the flow tests/flows/aws/wide.py: task instances, pods, state transitions. The
points of Metaflow's own Step Functions deployer and of both Argo deployers are what runs have measured
(`step_functions_size.py`, `argo_run.py`); the dashed line joins measured points, and goes on as they rise.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from math import log10
from pathlib import Path
from typing import Any

from installation import HOME, ROOT

RESULTS = ROOT / "benchmarks/results"
WIDTHS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
COUNTED = {
    "airflow": ("task instances of a run", "Airflow: task instances", "#1565c0"),
    "argo": ("pods of a run", "Argo Workflows: pods, as with Metaflow's own deployer", "#2e7d32"),
    "step-functions": ("state transitions of a run", "Step Functions: state transitions", "#c62828"),
}
STOCK = "Step Functions by Metaflow's own deployer: state transitions"
Points = Sequence[tuple[float, float]]


def counted() -> dict[str, list[tuple[int, float]]]:
    """Return the costs by orchestrator: width and number."""
    from tests.support.recorded import on_s3

    from airflow_provider_metaflow.plan.checked import AirflowTarget
    from metaflow_adapters.argo.check import ArgoTarget
    from metaflow_adapters.step_functions.check import StepFunctionsTarget
    from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest

    flow = ROOT / "tests/flows/aws/wide.py"
    manifest = on_s3(
        load_manifest(flow, CompileOptions(python=sys.executable), HOME / "manifests"), "aws/wide", max_workers=None
    )
    now = datetime.now(timezone.utc)
    found: dict[str, list[tuple[int, float]]] = {}
    for target in (AirflowTarget(), ArgoTarget(), StepFunctionsTarget()):
        subject = COUNTED[target.name][0]
        for width in WIDTHS:
            amount = next(row.amount for row in target.rows(manifest, width, now) if row.subject == subject)
            found.setdefault(target.name, []).append((width, float(amount or 0)))
    return found


def measured() -> tuple[list[tuple[int, float]], tuple[int, float]]:
    """Return transitions of Metaflow's own deployer by width, and pods of its Argo template at a width of 3."""
    sizes: dict[str, Any] = json.loads((RESULTS / "step_functions_size.json").read_text())
    prefix = "foreach of "
    stock = sorted(
        (int(name.removeprefix(prefix)), float(one["stock"]["transitions"]))
        for name, one in sizes.items()
        if name.startswith(prefix)
    )
    argo = json.loads((RESULTS / "argo_run.json").read_text())
    return stock, (3, float(argo["pods"]["stock"]))


LEFT, TOP, WIDTH, HEIGHT, DECADES = 70, 20, 640, 360, 4


def _x(value: float) -> float:
    return LEFT + WIDTH * log10(value) / DECADES


def _y(value: float) -> float:
    return TOP + HEIGHT * (1 - log10(max(value, 1)) / DECADES)


def _line(points: Points, colour: str, dashes: str = "") -> str:
    places = " ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)
    style = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"{style}/>'


def svg(found: dict[str, list[tuple[int, float]]], stock: list[tuple[int, float]], argo: tuple[int, float]) -> str:
    """Return the plot."""
    parts = ['<rect width="100%" height="100%" fill="white"/>']
    for power in range(DECADES + 1):
        value = 10**power
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{_y(value)}" y2="{_y(value)}" stroke="#ddd"/>')
        parts.append(f'<line y1="{TOP}" y2="{TOP + HEIGHT}" x1="{_x(value)}" x2="{_x(value)}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{_y(value) + 4}" text-anchor="end">{value:,}</text>')
        parts.append(f'<text x="{_x(value)}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{value:,}</text>')
    parts.append(
        f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">width of the foreach</text>'
    )
    legend = [(text, colour, "") for _, text, colour in COUNTED.values()] + [(STOCK, "#c62828", "6 4")]
    for name, points in found.items():
        # Curves that cover each other stay visible.
        parts.append(_line(points, COUNTED[name][2], "10 10" if name == "argo" else ""))
    (first, low), (last, high) = stock[0], stock[-1]
    rise = (high - low) / (last - first)
    # Where the next width would cost more than the plot shows.
    end = min(10**DECADES, first + (10**DECADES - low) / rise)
    parts.append(
        _line(
            [(x, low + rise * (x - first)) for x in (*[w for w in WIDTHS if first <= w < end], end)], "#c62828", "6 4"
        )
    )
    for x, y, colour in (*((x, y, "#c62828") for x, y in stock), (*argo, "#2e7d32")):
        parts.append(
            f'<circle cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="4" fill="white" stroke="{colour}" stroke-width="2"/>'
        )
    for row, (text, colour, dashes) in enumerate(legend):
        y = TOP + HEIGHT + 62 + 20 * row
        style = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(
            f'<line x1="{LEFT}" x2="{LEFT + 34}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"{style}/>'
        )
        parts.append(f'<text x="{LEFT + 44}" y="{y + 4}">{text}</text>')
    size = f'viewBox="0 0 {LEFT + WIDTH + 30} {TOP + HEIGHT + 150}" font-family="sans-serif" font-size="13"'
    label = 'role="img" aria-label="Cost of a foreach by its width, on three orchestrators"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>\n' + "\n".join(parts) + "\n</svg>\n"


def picture(file: Path) -> None:
    """Draw an SVG as PNG beside it, where Chromium is installed."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is not installed, so that no PNG was made.")
        return
    size = f"--window-size={LEFT + WIDTH + 30},{TOP + HEIGHT + 150}"
    shot = f"--screenshot={file.with_suffix('.png')}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--force-device-scale-factor=2"]
    subprocess.run([chromium, *options, size, shot, file.as_uri()], check=True, capture_output=True, timeout=120)


def main() -> None:
    found = counted()
    stock, argo = measured()
    document = {"counted": found, "measured": {"step functions, stock": stock, "argo, stock": [argo]}}
    (RESULTS / "width.json").write_text(json.dumps(document, indent=1) + "\n")
    target = ROOT / "docs/width.svg"
    target.write_text(svg(found, stock, argo))
    picture(target)
    print({name: points[-1] for name, points in found.items()}, stock)


if __name__ == "__main__":
    main()
