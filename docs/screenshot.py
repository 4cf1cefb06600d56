"""Makes the pictures of the documentation, taken by headless Chromium of a real Airflow.

After `make demo`, with Debian's chromium and the package playwright: `.venv/bin/python docs/screenshot.py`
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
from airflow_provider_metaflow.deploy.dag_file import write
from airflow_provider_metaflow.rest import dags, runs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def demo_graph(airflow: EmbeddedAirflow, page: Any) -> None:
    """Take the demo's run as Airflow's graph."""
    run = next(iter(runs.list_runs(airflow.client, "DemoFlow"))).dag_run_id
    page.goto(f"{airflow.url}/dags/DemoFlow/runs/{run}")
    time.sleep(10)
    page.locator("[aria-label*=raph]").first.click()
    time.sleep(8)
    page.locator("[aria-label*=xpand]").first.click()
    time.sleep(8)
    page.screenshot(path=str(DOCS / "demo-graph.png"), clip={"x": 105, "y": 450, "width": 1070, "height": 130})


def card_view(airflow: EmbeddedAirflow, page: Any) -> None:
    """Take a run with its card, in the tab that this provider adds."""
    manifest = load_manifest(
        ROOT / "tests" / "flows" / "cards.py", CompileOptions(python=sys.executable), ROOT / ".demo" / "metaflow"
    )
    list(write(airflow.dags / "CardsFlow.py", manifest))
    dags.wait_for_dag(airflow.client, "CardsFlow")
    dags.set_paused(airflow.client, "CardsFlow", paused=False)
    run = runs.trigger(airflow.client, "CardsFlow", f"picture-{int(time.time())}", {}).dag_run_id
    runs.wait_for_run(airflow.client, "CardsFlow", run)
    page.set_viewport_size({"width": 1200, "height": 800})
    page.goto(f"{airflow.url}/dags/CardsFlow/runs/{run}/plugin/metaflow-run")
    time.sleep(12)
    page.screenshot(path=str(DOCS / "metaflow-view.png"))


def main() -> None:
    """Take all pictures."""
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(ROOT / ".demo")
    # No page of a log-in before the pictures.
    everybody = {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
    with EmbeddedAirflow(home=ROOT / ".demo", settings=everybody) as airflow, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 950}, device_scale_factor=1.5)
        page.goto(f"{airflow.url}/")
        time.sleep(8)
        if "--card-only" not in sys.argv:
            demo_graph(airflow, page)
        card_view(airflow, page)
        browser.close()


if __name__ == "__main__":
    main()
