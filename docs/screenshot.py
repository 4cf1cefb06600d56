"""Makes the picture of the demo's graph, taken by headless Chromium of a real Airflow; tests take those of the tab.

After `make demo`, with Debian's chromium and the package playwright: `.venv/bin/python docs/screenshot.py`
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from airflow_provider_metaflow.rest import runs

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


def main() -> None:
    """Take the picture."""
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(ROOT / ".demo")
    # No page of a log-in before the picture.
    everybody = {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
    with EmbeddedAirflow(home=ROOT / ".demo", settings=everybody) as airflow, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 950}, device_scale_factor=1.5)
        page.goto(f"{airflow.url}/")
        time.sleep(8)
        demo_graph(airflow, page)
        browser.close()


if __name__ == "__main__":
    main()
