"""The page in headless Chromium, in a frame with the sandbox that Airflow's web interface gives it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.sync_api import sync_playwright
from tests.unit.plugin.conftest import RUN, Airflow, task

from airflow_provider_metaflow import MetaflowDag
from airflow_provider_metaflow.plugin import app as page_app
from metaflow_orchestration.graph.identity import airflow_run_id

pytestmark = pytest.mark.subprocess

CHROMIUM = "/usr/bin/chromium"
PATHSPEC = f"ForeachFlow/{airflow_run_id('d', RUN)}"
SANDBOX = "allow-scripts allow-same-origin allow-forms"
"""Of Airflow 3.1 for pages of plugins; 3.3 allows downloads, too."""
FRAME = f"""<!doctype html><title>Airflow</title><body style="margin:0">
<iframe sandbox="{SANDBOX}" src="/metaflow/dags/d/runs/{RUN}" style="border:0;width:100vw;height:100vh"></iframe>"""
ATTACK = '<img src=x onerror="top.attacked=1"><script>top.attacked=1</script>"\'><svg onload=top.attacked=1>'
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing; `make test` installs it.")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def server(airflow: Airflow) -> Iterator[str]:
    """The address of the page, with a page of Airflow's around it."""
    around = FastAPI()
    around.mount("/metaflow", page_app.app)
    around.get("/")(lambda: HTMLResponse(FRAME))
    around.get("/dags/{rest:path}")(lambda rest: HTMLResponse(f"<title>{rest}</title>"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(around, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def running(airflow: Airflow, manifest_of: Callable[[str], Path]) -> Airflow:
    """A run whose foreach is under way, with values and an error that would be code in a careless page."""
    airflow.dag(MetaflowDag(manifest_of("foreach"), "d"))
    airflow.run()
    airflow.task("start", took=4)
    airflow.task("upper", "success", 0, at=4, took=6, tries=2)
    airflow.task("upper", "failed", 1, at=4, took=3, tries=2)
    artifacts = [
        {"name": "rows", "type": "list", "size": 58, "preview": '["ab", "cd", "ef"]', "hidden": False},
        {"name": "api_token", "type": "str", "size": 41, "preview": None, "hidden": True},
        {"name": ATTACK, "type": ATTACK, "size": 5, "preview": ATTACK, "hidden": False},
    ]
    error = {"type": "ValueError", "message": f"no letters in {ATTACK}"}
    airflow.answers = {
        "parameters": {"text": f"'{ATTACK}'", "number": "3"},
        "tags": [ATTACK],
        "steps": [
            {"step": "start", "tasks": [task(f"{PATHSPEC}/start/t-start", artifacts=artifacts)]},
            {
                "step": "upper",
                "tasks": [
                    task(f"{PATHSPEC}/upper/t-upper-0", attempt=1),
                    task(f"{PATHSPEC}/upper/t-upper-1", successful=False, attempt=1, error=error),
                ],
            },
        ],
    }
    return airflow


@pytest.fixture
def window(chromium: Any, server: str) -> Iterator[Any]:
    """A window of a browser with the page in Airflow's frame."""
    context = chromium.new_context(viewport={"width": 1100, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
    opened = context.new_page()
    yield opened
    context.close()


def frame(window: Any, server: str) -> Any:
    """Open the page and return its frame."""
    window.goto(f"{server}/")
    window.frame_locator("iframe").locator("h1").wait_for()
    return window.frames[1]


def test_nothing_that_users_wrote_is_code_in_the_page(running: Airflow, window: Any, server: str) -> None:
    shown = frame(window, server)
    assert ATTACK in shown.inner_text("#step-start")
    assert ATTACK in shown.inner_text("#step-upper")
    assert shown.locator("img, svg, main script").count() == 0
    assert window.evaluate("window.attacked") is None


def test_pathspec_and_code_are_copied_by_mouse_and_keyboard(running: Airflow, window: Any, server: str) -> None:
    shown = frame(window, server)
    shown.click("[aria-label='Copy the pathspec']")
    shown.wait_for_selector("#status:has-text('Copied')")
    assert window.evaluate("navigator.clipboard.readText()") == PATHSPEC
    shown.locator("#snippet summary").focus()
    window.keyboard.press("Enter")
    window.keyboard.press("Tab")
    window.keyboard.press("Enter")
    window.wait_for_function(f"async () => (await navigator.clipboard.readText()).endsWith('Run(\"{PATHSPEC}\")')")


def test_links_to_airflow_open_outside_of_the_frame(running: Airflow, window: Any, server: str) -> None:
    shown = frame(window, server)
    shown.click("#timeline a >> text=upper")
    window.wait_for_url(f"{server}/dags/d/runs/{RUN}/tasks/upper", timeout=15_000)


def test_a_running_run_goes_on_without_a_reload_and_stays_as_it_was_opened(
    running: Airflow, window: Any, server: str
) -> None:
    shown = frame(window, server)
    shown.evaluate("window.first = true")
    shown.click("#step-start summary")
    assert not shown.locator("#step-start details").get_attribute("open")
    running.answers["steps"].append({"step": "gather", "tasks": [task(f"{PATHSPEC}/gather/t-gather")]})
    running.answers["steps"][0]["tasks"][0]["artifacts"][0]["preview"] = '["new"]'
    shown.wait_for_selector("text=Step gather", timeout=20_000)
    assert shown.locator("#step-start details").get_attribute("open") is None
    shown.click("#step-start summary")
    assert '["new"]' in shown.inner_text("#step-start")
    assert shown.evaluate("window.first") is True
    order = [one.get_attribute("id") for one in shown.locator("main > section").all()]
    assert order == ["timeline", "parameters", "step-start", "step-upper", "step-gather"]


def test_a_page_that_was_opened_too_early_shows_the_run_once_it_has_begun(
    airflow: Airflow, manifest_of: Callable[[str], Path], window: Any, server: str
) -> None:
    airflow.dag(MetaflowDag(manifest_of("foreach"), "d"))
    airflow.run("queued")
    window.goto(f"{server}/")
    window.frame_locator("iframe").locator("text=The run has not begun yet.").wait_for()
    airflow.task("start")
    window.frame_locator("iframe").locator("h1").wait_for(timeout=20_000)
    assert window.frames[1].locator("#note").count() == 0


@pytest.mark.parametrize("width", [320, 480, 1100])
def test_a_narrow_panel_needs_no_scrolling_sideways(running: Airflow, window: Any, server: str, width: int) -> None:
    window.set_viewport_size({"width": width, "height": 900})
    shown = frame(window, server)
    assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert shown.locator("h1").inner_text() == "ForeachFlow"


def test_the_page_is_dark_where_the_browser_is(
    running: Airflow, window: Any, server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With `--update-golden`, its pictures go into the documentation."""
    folder = DOCS if request.config.getoption("--update-golden") else tmp_path
    running.answers["parameters"] = {"number": "3"}
    running.answers["tags"] = ["nightly"]
    del running.answers["steps"][0]["tasks"][0]["artifacts"][2]
    running.answers["steps"][1]["tasks"][1]["error"] = {"type": "ValueError", "message": "no letters in '12'"}
    colours = {}
    for scheme in ("light", "dark"):
        window.emulate_media(color_scheme=scheme)
        shown = frame(window, server)
        colours[scheme] = shown.evaluate("getComputedStyle(document.body).color")
        window.screenshot(path=str(folder / f"metaflow-tab-{scheme}.png"))
    assert colours == {"light": "rgb(0, 0, 0)", "dark": "rgb(255, 255, 255)"}
