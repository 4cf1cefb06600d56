"""Run ids, task ids and attempts: computed from positions in the graph, never carried along.

Rules of Metaflow (``metaflow.metadata_provider``): an id that parses as an integer is taken for one that the metadata
service has issued and never gets registered, and ``/ , : !`` are the separators of input paths.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

MAX_ATTEMPTS = 6
"""Attempts that Metaflow allows for one task id (``metaflow.metaflow_config.MAX_ATTEMPTS``)."""

RESUME_KEY = "metaflow_resume"
"""In the ``conf`` of a DAG run: the run whose finished tasks it reuses, and the step to run again."""

RUN_KEY = "metaflow_run"
"""XCom of the start step with the Metaflow run id, from its beginning on."""

_MAX_STEP_LENGTH = 64
"""How many characters of a task id stand for its step."""

PARAMETERS_STEP = "_parameters"
PARAMETERS_TASK = "t-params"


def run_id(prefix: str, *parts: str) -> str:
    """Return the Metaflow run id of an orchestrator's run.

    :param prefix: short name of the orchestrator, e.g. ``airflow``.
    :param parts: what makes the run unique there, e.g. DAG id and DAG run id. Hashed, since they may hold
        characters that Metaflow's input paths cannot.
    """
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{prefix}-{digest[:16]}"


def airflow_run_id(dag_id: str, dag_run_id: str, id_prefix: str = "", map_index: int = -1) -> str:
    """Return the Metaflow run id of an Airflow DAG run.

    :param dag_id: the DAG.
    :param dag_run_id: its run.
    :param id_prefix: for a flow inside a larger DAG, what its Airflow task ids start with.
    :param map_index: for a flow in a mapped task group, which instance of the group; each has a run of its own.
    """
    instance = () if map_index < 0 else (str(map_index),)
    return run_id("airflow", dag_id, dag_run_id, id_prefix, *instance)


def numbered_run_id(first: str, number: int) -> str:
    """Return the Metaflow run id of a DAG run that was deleted and made again under its old id.

    >>> numbered_run_id("airflow-0123456789abcdef", 2)
    'airflow-0123456789abcdef-2'

    :param first: :func:`airflow_run_id`, the id of the first of these runs.
    :param number: 1 for the first.
    """
    return first if number == 1 else f"{first}-{number}"


def run_number(run_id: str, first: str) -> int | None:
    """Return which of the runs of one DAG run id a Metaflow run is, 1 for the first; None if it is none of them.

    :param run_id: Metaflow run id.
    :param first: :func:`airflow_run_id` of the DAG run.
    """
    found = re.fullmatch(rf"{re.escape(first)}(?:-([2-9]|[1-9][0-9]{{1,5}}))?", run_id)
    return int(found[1] or 1) if found else None


def reported_run_id(reported: object, first: str) -> str:
    """Return the Metaflow run id of a DAG run as its start step has reported it in the XCom ``metaflow_run``.

    :param reported: content of the XCom, which users may edit; None if there is none.
    :param first: :func:`airflow_run_id` of the DAG run, which is returned for what is none of its runs.
    """
    text = reported.strip('"') if isinstance(reported, str) else ""
    return first if run_number(text, first) is None else text


def first_run_id(run_id: str) -> str:
    """Return a run id without the number that distinguishes the runs of one DAG run id.

    :param run_id: Metaflow run id of an Airflow run.
    """
    return re.sub(r"\A(airflow-[0-9a-f]{16})-[0-9]+\Z", r"\1", run_id)


def task_id(step: str, index_path: tuple[int, ...] = (), *, iteration: int = 0, generation: int = 0) -> str:
    """Return the id of a task, which no other task of the run has, e.g. ``t-train``, ``t-train-3-0``, ``t-train-3-r2``.

    Metaflow's own ids are unique in a run, so flows name files after ``current.task_id``, and
    ``FlowSpec.merge_artifacts`` distinguishes inputs by it.

    :param step: the step.
    :param index_path: index in every enclosing foreach, outermost first.
    :param iteration: 0-based iteration of a recursive switch.
    :param generation: how often the six attempts that Metaflow allows were used up.
    """
    return f"t-{step_in_id(step)}" + _position(index_path, iteration, generation)


def old_task_id(index_path: tuple[int, ...] = (), *, iteration: int = 0, generation: int = 0) -> str:
    """Return the id that releases before 0.1.0 gave a task, unique in its step only, e.g. ``t``, ``t-3-0``.

    :param index_path: as for :func:`task_id`, like the other parameters.
    :param iteration: iteration of a recursive switch.
    :param generation: which task id of the task.
    """
    return "t" + _position(index_path, iteration, generation)


def is_old_task_id(name: str) -> bool:
    """Return whether a task id has the form of :func:`old_task_id`.

    :param name: task id.
    """
    return re.fullmatch(r"t(-[0-9]+)*(-r[0-9]+)?(-g[0-9]+)?", name) is not None


def position_in_step(step: str, name: str) -> str:
    """Return a task id without its step, for names of containers that have the step already, e.g. ``t-3-0``.

    :param step: the step.
    :param name: task id.
    """
    return name.replace(f"t-{step_in_id(step)}", "t", 1)


def step_in_id(step: str) -> str:
    """Return what stands for a step in ids of its tasks: its name, if that is short and plain ASCII.

    Task ids are names of folders and labels, so that a long name is cut and gets a hash. The dot
    before the hash is in no name of a step.

    :param step: the step.
    """
    if re.fullmatch(rf"[A-Za-z0-9_]{{1,{_MAX_STEP_LENGTH}}}", step):
        return step
    plain = re.sub(r"[^A-Za-z0-9_]", "_", step)[: _MAX_STEP_LENGTH - 9]
    return f"{plain}.{hashlib.sha256(step.encode()).hexdigest()[:8]}"


def _position(index_path: tuple[int, ...], iteration: int, generation: int) -> str:
    text = "".join(f"-{index}" for index in index_path)
    if iteration:
        text += f"-r{iteration}"
    if generation:
        text += f"-g{generation}"
    return text


class Attempt(NamedTuple):
    """One attempt of a Metaflow task, as derived from a scheduler's ever growing count of tries.

    :param generation: which task id (see :func:`task_id`).
    :param number: 0-based attempt of that task id, for ``--retry-count``.
    :param max_user_retries: for ``--max-user-code-retries``: attempts up to this one run user code.
    """

    generation: int
    number: int
    max_user_retries: int


def fallback_retries(user: int, error: int, *, granted: int) -> int:
    """Return how many of a scheduler's retries are for the fallback of ``@catch`` only.

    A cluster policy or an override may grant fewer retries than the flow asks for. Those of the fallback are given up
    first: with none left over, a task that fails after its last try fails, but its user code has run.

    >>> fallback_retries(0, 3, granted=1)
    1

    :param user: retries that run user code (``@retry``).
    :param error: retries for a fallback that the flow asks for.
    :param granted: retries that the scheduler grants to a task instance.
    """
    return min(error, max(granted - user, 0))


def attempt_of(tries: int, *, tries_left: int, error_retries: int) -> Attempt:
    """Derive the attempt to make from a scheduler's counters.

    :param tries: how many tries came before this one, over all clears.
    :param tries_left: how many retries the scheduler would still grant after this try.
    :param error_retries: how many of them are for a fallback (``@catch``) only.
    """
    generation, number = divmod(tries, MAX_ATTEMPTS)
    # Negative once only fallbacks are left; -1 makes even attempt 0 of a new generation a fallback.
    return Attempt(
        generation=generation,
        number=number,
        max_user_retries=max(number + tries_left - error_retries, -1),
    )
