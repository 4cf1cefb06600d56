"""The table of docs/performance.md, from the results beside this file.

    python benchmarks/report.py            # writes it into the page

`benchmarks/run.py` calls it after all benchmarks; a test keeps the page equal to the results.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/performance.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"

Results = dict[str, Any]


def _ratios(name: str, key: str, *sizes: str) -> Callable[[Results], str]:
    return lambda found: ", ".join(f"{found[name][size][key]:.2f}" for size in sizes)


def _each(found: Results) -> float:
    return float(found["parse_flows"]["compiles"]["one_interpreter_each"]["median"])


STEPS = ("5 steps", "50 steps", "500 steps")
FOLDERS = ("1 flows", "40 flows", "200 flows")
AIRFLOW: tuple[tuple[str, Callable[[Results], str]], ...] = (
    (
        "parse of a deployed flow of 5, 50, 500 steps, against a hand-written DAG of as many `BashOperator`s",
        _ratios("parse", "time_ratio", *STEPS),
    ),
    ("memory of the process that parses it, likewise", _ratios("parse", "memory_ratio", *STEPS)),
    (
        "`load_flow_dags` of 1, 40, 200 compiled flows, against as many hand-written DAGs in one file",
        _ratios("parse_flows", "warm_time_ratio", *FOLDERS),
    ),
    (
        "compile of 50 flows in the background, against an interpreter for each; on one core",
        lambda found: ", ".join(
            f"{found['parse_flows']['compiles'][one]['median'] / _each(found):.2f}" for one in ("server", "server_on_one_core")
        ),
    ),
    (
        "50-wide foreach on PostgreSQL and `LocalExecutor(8)`, against a hand-written mapped DAG of the same commands",
        lambda found: f"{found['foreach-50']['ratio']:.2f}",
    ),
    (
        "10,000-wide foreach, time per Metaflow task against 100 wide in the same run",
        lambda found: f"{found['foreach-10000']['ratio']:.2f}",
    ),
    (
        "50-wide foreach in pods, against a hand-written mapped `KubernetesPodOperator` of Metaflow's own commands",
        lambda found: f"{found['foreach_pods']['ratio']:.2f}",
    ),
    (
        "`KubernetesExecutor`, start of a worker pod to user code: `start` and `end` of a flow, against a hand-written `@task` that prints",
        lambda found: ", ".join(f"{found['worker_pod_start']['ratio'][step]:.2f}" for step in ("start", "end")),
    ),
    (
        "`airflow trigger` to the first task running, against `airflow dags trigger`",
        lambda found: f"{found['trigger']['ratio']:.2f}",
    ),
    (
        "`airflow create` of a changed and of an unchanged flow, against Metaflow's own group",
        lambda found: f"{found['create']['changed_ratio']:.2f}, {found['create']['unchanged_ratio']:.2f}",
    ),
    (
        "`airflow create` with a local datastore, against an interpreter that imports Metaflow",
        lambda found: f"{found['create']['import_ratio']:.2f}",
    ),
    (
        "500 deferred sensors on local files, CPU of the triggerer against a process per poll",
        lambda found: f"{found['sensors']['ratio']['local files']:.3f}",
    ),
)
OTHERS: tuple[tuple[str, Callable[[Results], str]], ...] = (
    ("Argo: size of the YAML of a flow of 5 and of 100 steps", _ratios("argo_size", "yaml_ratio", "5 steps", "100 steps")),
    (
        "Argo: processor time to compile them",
        _ratios("argo_size", "compile_processor_ratio", "5 steps", "100 steps"),
    ),
    ("Argo: nodes of a run with a foreach of 3", lambda found: f"{found['argo_run']['nodes']['ratio']:.2f}"),
    ("Argo: time of that run", lambda found: f"{found['argo_run']['seconds_of_the_run']['ratio']:.2f}"),
    (
        "Argo: time to user code in a pod; starts of Python before it",
        lambda found: f"{found['argo_run']['seconds_to_user_code']['ratio']:.2f}; "
        f"{found['argo_run']['python_starts_before_user_code']['ratio']:.2f}",
    ),
    (
        "Step Functions: size of the definition of a flow of 5 steps; of 5 and of 100 with a parameter and `@retry`",
        _ratios(
            "step_functions_size", "definition_ratio", "5 steps, plain", "5 steps, with a parameter and @retry",
            "100 steps, with a parameter and @retry",
        ),
    ),
    (
        "Step Functions: processor time to compile a flow of 5 and of 100 steps",
        _ratios("step_functions_compile", "processor_seconds_ratio", "5 steps", "100 steps"),
    ),
    ("Step Functions: transitions; events of a foreach of 10", lambda found: _foreach(found["step_functions_size"])),
    ("Step Functions: starts of Python in a job before user code", lambda found: f"{found['job_start']['ratio']:.2f}"),
)  # fmt: skip


def _foreach(found: Results) -> str:
    of_10 = found["foreach of 10"]
    return "; ".join(f"{of_10['ours'][what] / of_10['stock'][what]:.2f}" for what in ("transitions", "events"))


def tables() -> str:
    """Return the part of the page that shows figures."""
    found = {file.stem: json.loads(file.read_text()) for file in RESULTS.glob("*.json")}
    lines = []
    for title, rows in (
        ("What an Airflow step costs", AIRFLOW),
        ("Other orchestrators, against Metaflow's own deployers", OTHERS),
    ):
        lines += [f"## {title}", "", "| measured | ratio |", "|---|---|"]
        lines += [f"| {text} | {value(found)} |" for text, value in rows]
        lines.append("")
    return "\n".join(lines)


def page() -> str:
    """Return the page with the figures of the results."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
