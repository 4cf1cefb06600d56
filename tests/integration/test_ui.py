"""The page that this provider adds to Airflow, in a real browser, and who may see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import sync_playwright
from tests.support.airflow import FlowRun, SharedAirflow
from tests.support.api_server import api_server

pytestmark = pytest.mark.scheduler

CHROMIUM = "/usr/bin/chromium"
DOCS = Path(__file__).parents[2] / "docs"

ATTEMPTS = """async () => {
  const told = [self.origin];
  try { told.push("cookie:" + document.cookie); } catch (error) { told.push("cookie refused"); }
  try { told.push("parent:" + parent.document.title); } catch (error) { told.push("parent refused"); }
  await fetch("/api/v2/dags").then(() => told.push("fetched"), () => told.push("fetch refused"));
  return told;
}"""


@pytest.fixture(scope="module")
def card_run(airflow: SharedAirflow, flows: Path) -> FlowRun:
    """A finished run with a card."""
    airflow.create(flows / "cards.py")
    run = airflow.start("CardsFlow", "CardsFlow")
    run.wait()
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of Debian."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing; `make test` installs it.")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def frame_of(page: Any, part: str) -> Any:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = [frame for frame in page.frames if part in frame.url]
        if found:
            return found[0]
        page.wait_for_timeout(200)
    raise AssertionError(f"no frame of {part} among {[frame.url for frame in page.frames]}")


def test_a_dag_run_shows_its_metaflow_run_and_cards_which_cannot_reach_airflow(
    card_run: FlowRun, browser: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """With `--update-golden`, its picture goes into the documentation."""
    folder = DOCS if request.config.getoption("--update-golden") else tmp_path
    url = card_run.airflow.server.url
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.goto(url)
    page.wait_for_timeout(2000)
    page.goto(f"{url}/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}/plugin/metaflow-run")
    view = frame_of(page, "/metaflow/dags/CardsFlow/runs/")
    view.wait_for_selector(f"text=CardsFlow/{card_run.run_id}", timeout=60_000)
    text = view.inner_text("body")
    # A parameter is text here, whatever it holds.
    assert "'<b>bold</b>'" in text
    card = frame_of(page, "/cards/start/t-start/")
    card.wait_for_selector("text=Scores of the start step", timeout=60_000)
    page.screenshot(path=str(folder / "metaflow-view.png"))
    # What a script of the card could do.
    assert card.evaluate(ATTEMPTS) == ["null", "cookie refused", "parent refused", "fetch refused"]
    # Also where somebody opens the card by itself.
    page.goto(card.url)
    page.wait_for_selector("text=Scores of the start step", timeout=60_000)
    assert page.evaluate(ATTEMPTS)[:2] == ["null", "cookie refused"]
    page.close()


def test_a_task_instance_shows_its_own_step(card_run: FlowRun, browser: Any) -> None:
    url = card_run.airflow.server.url
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.goto(url)
    page.wait_for_timeout(1000)
    page.goto(f"{url}/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}/tasks/end/plugin/metaflow-task")
    view = frame_of(page, "/metaflow/dags/CardsFlow/runs/")
    view.wait_for_selector("text=Step end", timeout=60_000)
    assert "Step start" not in view.inner_text("body")
    page.close()


@pytest.mark.extended
def test_the_tab_copies_the_pathspec_and_leads_to_the_log_in_airflow(
    card_run: FlowRun, browser: Any
) -> None:
    url = card_run.airflow.server.url
    context = browser.new_context(viewport={"width": 1400, "height": 1100})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(1000)
    page.goto(f"{url}/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}/plugin/metaflow-run")
    view = frame_of(page, "/metaflow/dags/CardsFlow/runs/")
    view.click("[aria-label='Copy the pathspec']")
    view.wait_for_selector("#status:has-text('Copied')", timeout=10_000)
    assert page.evaluate("navigator.clipboard.readText()") == f"CardsFlow/{card_run.run_id}"
    assert view.inner_text("#parameters").split()[-1] == "default"
    view.click("#timeline a >> text=end")
    page.wait_for_url(f"{url}/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}/tasks/end**", timeout=60_000)
    context.close()


LARGER = """
from airflow.sdk import DAG
from airflow_provider_metaflow import MetaflowTaskGroup

with DAG("larger", schedule=None):
    MetaflowTaskGroup({flow!r}, "cards", parameters={{"title": "from the DAG file"}})
"""


@pytest.mark.extended
def test_a_flow_within_a_larger_dag_shows_its_run_and_each_task_its_step(
    card_run: FlowRun, flows: Path, browser: Any
) -> None:
    airflow = card_run.airflow
    url = airflow.server.url
    airflow.write_dag("larger", LARGER.format(flow=str(flows / "cards.py")))
    run = airflow.start("larger", "larger")
    run.wait()
    page = browser.new_page(viewport={"width": 700, "height": 1100})
    page.goto(url)
    page.wait_for_timeout(1000)
    page.goto(f"{url}/dags/larger/runs/{quote(run.dag_run_id)}/plugin/metaflow-run")
    view = frame_of(page, "/metaflow/dags/larger/runs/")
    view.wait_for_selector("text=Step end", timeout=60_000)
    assert "from the DAG file" in view.inner_text("#parameters")
    assert "DAG file" in view.inner_text("#parameters")
    page.goto(f"{url}/dags/larger/runs/{quote(run.dag_run_id)}/tasks/cards.start/plugin/metaflow-task")
    view = frame_of(page, "task=cards.start")
    view.wait_for_selector("text=Step start", timeout=60_000)
    assert "Step end" not in view.inner_text("body")
    frame_of(page, "/cards/start/t-start/").wait_for_selector("text=Scores of the start step", timeout=60_000)
    page.close()


def test_the_links_of_a_task_lead_to_its_cards(card_run: FlowRun) -> None:
    links = card_run.airflow.server.client.request(
        "GET", f"/dags/CardsFlow/dagRuns/{quote(card_run.dag_run_id)}/taskInstances/start/links"
    )["extra_links"]
    wanted = f"metaflow/dags/CardsFlow/runs/{quote(card_run.dag_run_id, safe='')}?task=start"
    assert links["Metaflow cards"] == wanted
    assert httpx.get(f"{card_run.airflow.server.url}/{wanted}").status_code == 200


def test_an_airflow_below_a_path_shows_the_page_its_cards_and_links_below_that_path(
    card_run: FlowRun, browser: Any, tmp_path: Path
) -> None:
    """`[api] base_url` with a path, as behind a proxy that several applications share."""
    from airflow_provider_metaflow.rest.client import AirflowClient
    from airflow_provider_metaflow.rest.endpoint import Endpoint

    settings = {"CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True", "API__BASE_URL": "http://airflow.example.com/team/air/"}
    run = f"/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}"
    with api_server(card_run.airflow, tmp_path / "api.log", settings) as server:
        url = f"{server}/team/air"
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.goto(f"{url}/")
        page.wait_for_timeout(2000)
        page.goto(f"{url}{run}/plugin/metaflow-run")
        view = frame_of(page, f"{url}/metaflow{run}")
        view.wait_for_selector(f"text=CardsFlow/{card_run.run_id}", timeout=60_000)
        card = frame_of(page, f"{url}/metaflow{run}/cards/start/t-start/")
        card.wait_for_selector("text=Scores of the start step", timeout=60_000)
        logs = view.eval_on_selector_all("a[data-open=page]", "links => links.map(one => one.href)")
        assert f"{url}{run}/tasks/start" in logs
        page.goto(f"{url}{run}/tasks/start/details")
        link = page.locator("a", has_text="Metaflow cards")
        link.wait_for(timeout=60_000)
        assert link.evaluate("one => one.href") == f"{url}/metaflow{run}?task=start"
        page.close()
        with AirflowClient(Endpoint(url=url)) as client:
            assert client.request("GET", "/dags/CardsFlow")["dag_id"] == "CardsFlow"
            assert client.ask_plugin("/deployments") is not None


def text_of(html: str) -> str:
    """Return what a person reads of a page."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", "", html.partition("<body")[2].partition(">")[2])
    return re.sub(r"<[^>]*>", "", body).strip()


def test_a_dag_that_is_no_flow_and_a_card_of_another_run_show_nothing(card_run: FlowRun) -> None:
    url = card_run.airflow.server.url
    card_run.airflow.write_dag("no_flow", "from airflow.sdk import DAG\ndag = DAG('no_flow', schedule=None)\n")
    card_run.airflow.wait_until(lambda: httpx.get(f"{url}/metaflow/dags/no_flow/runs/x").status_code == 200)
    assert text_of(httpx.get(f"{url}/metaflow/dags/no_flow/runs/x").text) == ""
    assert httpx.get(f"{url}/metaflow/dags/nowhere/runs/x").status_code == 404
    other = httpx.get(f"{url}/metaflow/dags/CardsFlow/runs/other/cards/start/t/abc")
    assert other.status_code == 404
    assert "has not begun yet" in httpx.get(f"{url}/metaflow/dags/CardsFlow/runs/other").text


def token(url: str, name: str, password: str) -> str:
    answer = httpx.post(f"{url}/auth/token", json={"username": name, "password": password})
    assert answer.is_success, answer.text
    return str(answer.json()["access_token"])


def run_commands(commands: list[list[str]], environment: dict[str, str]) -> None:
    """Run command lines of Airflow in one process, since each takes half a minute to start on a slow machine."""
    script = (
        "import json, sys\n"
        "from airflow.cli.cli_parser import get_parser\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    given = get_parser().parse_args(line)\n"
        "    given.func(given)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(commands)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def test_only_who_may_read_the_dag_sees_its_run(card_run: FlowRun, tmp_path: Path) -> None:
    airflow = card_run.airflow
    fab = {"CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}
    environment = {**airflow.server.environment(), **{f"AIRFLOW__{name}": value for name, value in fab.items()}}
    commands = [["fab-db", "migrate"], ["sync-perm"], ["roles", "create", "Outsider"]]
    for name, role in (("reader", "Viewer"), ("outsider", "Outsider")):
        person = ["--firstname", name, "--lastname", name, "--email", f"{name}@example.com", "--password", "pw"]
        commands.append(["users", "create", "--username", name, "--role", role, *person])
    run_commands(commands, environment)
    path = f"/metaflow/dags/CardsFlow/runs/{quote(card_run.dag_run_id)}"
    with api_server(airflow, tmp_path / "api.log", fab) as url:
        assert httpx.get(url + path).status_code == 401
        for name, status in (("reader", 200), ("outsider", 403)):
            headers = {"Authorization": f"Bearer {token(url, name, 'pw')}"}
            assert httpx.get(url + path, headers=headers).status_code == status
            card = httpx.get(f"{url}{path}/cards/start/t/abc", headers=headers).status_code
            assert card == (404 if status == 200 else status)


def test_the_verbs_log_in_by_password_token_and_command(airflow: SharedAirflow, tmp_path: Path) -> None:
    from airflow_provider_metaflow.rest.client import AirflowApiError, AirflowClient
    from airflow_provider_metaflow.rest.endpoint import Endpoint

    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"boss": "pw", "guest": "pw"}))
    settings = {
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "boss:admin,guest:viewer",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }
    with api_server(airflow, tmp_path / "api.log", settings) as url:

        def ask(**login: str) -> object:
            with AirflowClient(Endpoint(url=url, **login)) as client:
                return client.request("GET", "/connections", params={"limit": 1})

        assert ask(username="boss", password="pw")
        assert ask(token=token(url, "boss", "pw"))
        assert ask(auth_command=f"echo {token(url, 'boss', 'pw')}")
        with pytest.raises(AirflowApiError, match="refuses the log-in user 'boss'"):
            ask(username="boss", password="wrong")
        with pytest.raises(AirflowApiError, match="refuses the log-in without a user"):
            ask()
        with pytest.raises(AirflowApiError, match="The user guest lacks the permission"):
            ask(username="guest", password="pw")
        with pytest.raises(AirflowApiError, match="ended with status 3"):
            ask(auth_command="bash -c 'exit 3'")
        with pytest.raises(AirflowApiError, match="expired or is wrong"):
            ask(token="nonsense")
