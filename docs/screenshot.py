"""Makes docs/demo-graph.png: the demo's run as Airflow's graph, taken by headless Chromium.

After `make demo`, with Debian's chromium and the package playwright: `.venv/bin/python docs/screenshot.py`
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from airflow_provider_metaflow.embedded.airflow import EmbeddedAirflow
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]


def main() -> None:
    os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(ROOT / ".demo")
    with EmbeddedAirflow(home=ROOT / ".demo") as airflow, sync_playwright() as playwright:
        run = airflow.request("GET", "/dags/DemoFlow/dagRuns")["dag_runs"][-1]["dag_run_id"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1700, "height": 950}, device_scale_factor=1.5)
        page.goto(f"{airflow.url}/")
        time.sleep(8)
        page.goto(f"{airflow.url}/dags/DemoFlow/runs/{run}")
        time.sleep(10)
        page.locator("[aria-label*=raph]").first.click()
        time.sleep(8)
        page.locator("[aria-label*=xpand]").first.click()
        time.sleep(8)
        page.screenshot(
            path=str(ROOT / "docs" / "demo-graph.png"), clip={"x": 105, "y": 450, "width": 1070, "height": 130}
        )
        browser.close()


if __name__ == "__main__":
    main()
