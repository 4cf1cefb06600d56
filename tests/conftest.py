"""Fixtures that all tests share. The scheduler tests use one Airflow, started once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from metaflow_orchestration.documents.manifest import Manifest
    from tests.support.airflow import SharedAirflow
    from tests.support.argo import Argo
    from tests.support.kubernetes import Cluster
    from tests.support.object_store import ObjectStore
    from tests.support.pods import Pods
    from tests.support.step_functions import StepFunctions

# What the contract tests of a real account are told, before it is taken away from all others.
_GIVEN = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "METAFLOW_"))}
# Before anything imports Airflow or Metaflow: nothing of the user's own is read or written.
_HOME = Path(tempfile.mkdtemp(prefix="metaflow-tests-"))
os.environ["AIRFLOW_HOME"] = str(_HOME / "unit-airflow")
os.environ["METAFLOW_HOME"] = str(_HOME / "metaflow-config")
os.environ["METAFLOW_USER"] = "tester"
os.environ["AIRFLOW__METAFLOW__CACHE_FOLDER"] = str(_HOME / "cache")
for name in list(os.environ):
    if name.startswith(("METAFLOW_DATASTORE", "METAFLOW_DEFAULT", "METAFLOW_SERVICE")):
        del os.environ[name]
# Or each of the processes that tests start compiles all of our modules again, and none is forked from one that has
# imported them (tests/support/interpreter.py).
for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    os.environ.pop(name, None)
# For the object stores of the tests, which take any; workers of the shared Airflow inherit them.
os.environ.update(
    AWS_ACCESS_KEY_ID="test-key",
    AWS_SECRET_ACCESS_KEY="test-secret-of-the-store",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    # moto makes over 1,000 machine images, which no test needs, at each start and each reset of its EC2.
    MOTO_EC2_LOAD_DEFAULT_AMIS="false",
)

FLOWS = Path(__file__).parent / "flows"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole groups of tests, so that what they share is started once."""
    from tests.support.workers import GroupScheduling

    return GroupScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    from tests.harness import failures, figures

    figures.register(config)
    failures.register(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from tests.support.workers import check_groups, leave_out

    check_groups(items)
    leave_out(config, items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    from tests.harness.measured import measure_children
    from tests.support import idle_servers

    measure_children(item)
    idle_servers.before(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    from tests.support import idle_servers

    if nextitem is None:
        idle_servers.continue_all()


def pytest_sessionfinish() -> None:
    from tests.harness.measured import save

    save()


def pytest_unconfigure() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out although it was asked for: it has not passed."""
    from tests.support.real_aws import ASKED, NOT_RUN

    contract = Path(__file__).parent / "contract"
    asked_for = [Path(one.split("::")[0]).resolve() for one in config.args]
    if not ASKED and any(one == contract or one in contract.parents or contract in one.parents for one in asked_for):
        terminalreporter.write_line(NOT_RUN)


@pytest.fixture(scope="session")
def given_settings() -> dict[str, str]:
    """Settings of AWS and Metaflow as the session was started with."""
    return dict(_GIVEN)


@pytest.fixture(scope="session")
def flows() -> Path:
    """Folder of the flow files, one graph shape each."""
    return FLOWS


@pytest.fixture(scope="session")
def airflow(request: pytest.FixtureRequest) -> Iterator[SharedAirflow]:
    """The shared Airflow: PostgreSQL, LocalExecutor, and all processes real."""
    from tests.support.airflow import shared_airflow

    with shared_airflow(_HOME / "airflow") as started:
        yield started
        if request.session.testsfailed:
            kept = Path(tempfile.gettempdir()) / "metaflow-tests-failed-airflow"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(_HOME / "airflow", kept, ignore=shutil.ignore_patterns("metaflow", ".metaflow"))
            print(f"\nLogs of the failed session's Airflow: {kept}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real Kubernetes on this machine."""
    if request.config.getoption("--without-kubernetes"):
        pytest.skip("--without-kubernetes was given")
    from tests.support.kubernetes import cluster as started_cluster
    from tests.support.object_store import CREDENTIALS

    with started_cluster(CREDENTIALS) as started:
        yield started


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """S3 and AWS Batch on the loopback."""
    from tests.support.object_store import object_store

    with object_store("127.0.0.1", tmp_path_factory.mktemp("store") / "server.log") as started:
        yield started


@pytest.fixture(scope="session")
def cluster_store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """S3 where the pods of the cluster reach it."""
    from tests.support.kubernetes import HOST
    from tests.support.object_store import object_store

    with object_store(HOST, tmp_path_factory.mktemp("store") / "server.log") as started:
        yield started


@pytest.fixture(scope="module")
def pods(airflow: SharedAirflow, cluster: Cluster, cluster_store: ObjectStore) -> Iterator[Pods]:
    """Airflow, and the cluster for its pods."""
    from tests.support.pods import pods as started_pods

    with started_pods(airflow, cluster, cluster_store) as started:
        yield started


@pytest.fixture(scope="session")
def argo(cluster: Cluster, cluster_store: ObjectStore) -> Iterator[Argo]:
    """A real Argo Workflows in the cluster."""
    from tests.support.argo import argo as started_argo

    with started_argo(cluster, cluster_store) as started:
        yield started


@pytest.fixture(scope="session")
def step_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepFunctions]:
    """Step Functions, Batch, EventBridge and S3 on the loopback."""
    from tests.support.object_store import object_store
    from tests.support.step_functions import step_functions as started_step_functions

    with object_store("127.0.0.1", tmp_path_factory.mktemp("aws") / "server.log") as store:
        with started_step_functions(store) as started:
            yield started


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-kubernetes", action="store_true", help="Skip what needs a cluster, on a machine that can run none."
    )
    parser.addoption("--update-golden", action="store_true", help="Write the golden files again.")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Manifest]:
    """Compiles a flow file of `tests/flows`, once per flow and options."""
    from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
    from tests.harness.processes import GUARD
    from tests.support.environment import environment_variable
    from tests.support.interpreter import python

    sysroot = tmp_path_factory.mktemp("sysroot")
    cache = tmp_path_factory.mktemp("manifests")

    def compile_flow(name: str, *create: str, top: tuple[str, ...] = ()) -> Manifest:
        with environment_variable("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(sysroot)), GUARD.allowed():
            options = CompileOptions(python=python(), create=create, top_level=top)
            return load_manifest(FLOWS / f"{name}.py", options, cache)

    return compile_flow


@pytest.fixture(scope="session")
def recorded(request: pytest.FixtureRequest) -> Callable[[str], Manifest]:
    """The compiled form of a flow of `tests/flows`, from `tests/golden`; with `--update-golden`, compiled again."""
    from tests.harness.processes import GUARD
    from tests.support import recorded as records

    def compile_again(name: str) -> Manifest:
        if name in records.DECORATED:
            with GUARD.allowed():
                manifest: Manifest = request.getfixturevalue("compiled_on_s3")(name)
            return manifest
        return records.on_s3(request.getfixturevalue("compiled")(name), name)

    def find(name: str) -> Manifest:
        if request.config.getoption("--update-golden"):
            return compile_again(name)
        found = records.read_recorded(name)
        assert found is not None, f"{name} is not in tests/golden: run the tests once with --update-golden"
        return found

    return find


@pytest.fixture(scope="session")
def compiled_on_s3(
    store: ObjectStore, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Manifest]:
    """Compiles a decorated flow with its code package in S3, once per flow."""
    from metaflow_orchestration.compile.compiler import CompileOptions, load_manifest
    from tests.support import recorded as records
    from tests.support.interpreter import python

    cache = tmp_path_factory.mktemp("recorded")

    def compile_flow(name: str) -> Manifest:
        top, create = records.DECORATED[name]
        environment = {**store.environment, **records.ENVIRONMENT}
        options = CompileOptions(
            python=python(), create=create, top_level=top, environment=tuple(sorted(environment.items()))
        )
        manifest = load_manifest(FLOWS / f"{name}.py", options, cache)
        found = records.on_s3(manifest, name)
        if request.config.getoption("--update-golden"):
            records.record(name, found)
        return found

    return compile_flow
