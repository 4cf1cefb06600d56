"""What ``python flow.py sfn trigger``, ``status``, ``terminate`` and so on do with runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from metaflow.util import get_username

from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapter_runs import AdapterRuns
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.adapters import known_token
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.messages import print_data, print_json
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.parameters import given_texts
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.resumed_runs import (
    change_parameters,
    origin_of,
)
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.cli.target import ResumeRequest, Values
from metaflow_extensions.airflow_provider_metaflow.plugins.orchestrator.task.task_documents import (
    RunRecord,
    load_json,
    save_json,
)


class SfnGroupRuns(AdapterRuns):
    """The executions of a state machine.

    :param obj: state of Metaflow's command line.
    :param adapter: function that imports a module of the adapter.
    """

    going_on = ("RUNNING", "PENDING_REDRIVE")
    succeeded = "SUCCEEDED"
    what = "State machine"
    # DescribeExecution is eventually consistent (API reference of Step Functions).
    unknown_seconds = 30.0

    def __init__(self, obj: Any, adapter: Callable[[str], Any]) -> None:
        super().__init__(obj, adapter("runs.runs").SfnRuns(obj.aws, obj.sfn_name.name, obj.flow.name))
        self._adapter = adapter

    def caller(self, authorize: str | None) -> Any:
        """Return who asks."""
        token = known_token(self.obj.sfn_name.token_prefix, authorize)
        return self._adapter("runs.runs").Caller(user=get_username(), token=token)

    def status_of(self, found: Any) -> str:
        """Return the status of an execution."""
        return str(found["status"])

    def name(self) -> str:
        """Return the name of the state machine."""
        return str(self.obj.sfn_name.name)

    def deployed(self, flow: str | None) -> Iterable[str]:
        """Return the state machines of a flow, or of all flows."""
        found: Iterable[str] = self._adapter("deploy.deployments").deployed_machines(self.obj.aws, flow)
        return found

    def details(self, found: Any) -> Mapping[str, Any]:
        """Return why an execution failed, and what is known of its splits."""
        splits = list(self.runs.map_lines(found))
        return {**_causes(found), **({"splits": splits} if splits else {})}

    def detail_lines(self, found: Any) -> Iterator[str]:
        """Return the same as lines of text."""
        yield from ("%s: %s" % one for one in _causes(found).items())
        yield from self.runs.map_lines(found)

    def resume(self, request: ResumeRequest) -> str | None:
        """Start a run that clones results of another one, or redrive that one."""
        from metaflow_orchestration.exceptions import InvalidOptionError

        if not request.options["redrive"]:
            return super().resume(request)
        obj = self.obj
        if request.step_to_rerun:
            raise InvalidOptionError(
                "--redrive continues where the run failed, and cannot run a step again.", flow=obj.flow.name
            )
        origin, given = origin_of(obj, request.run_id, request.origin_run_id), given_texts(obj, request.options)
        caller = self.caller(request.authorize)
        if given:
            # AWS keeps the input of the execution, which the first step alone reads.
            self.runs.check_ended(origin, caller)
            change_parameters(obj, origin, request.options, given)
            self._note_change(origin)
        return str(self.runs.redrive(origin, caller))

    def _note_change(self, run_id: str) -> None:
        """Tell the jobs of a run that its parameters are others than those that its first tasks have seen."""
        storage = self.obj.flow_datastore._storage_impl
        path = "%s/%s/%s/record" % (self._adapter("emit.documents").FOLDER, self.obj.flow.name, run_id)
        before: RunRecord | None = load_json(storage, path)
        record: RunRecord = before or {}
        record["changed"] = True
        save_json(storage, path, record)

    def list_runs(self, options: Values, *, as_json: bool) -> None:
        """Print the executions."""
        statuses = [name.upper() for name, wanted in options.items() if wanted]
        found = list(self.runs.every(statuses))
        if as_json:
            print_json([_run_document(self.obj.flow.name, one) for one in found])
            return
        for one in found:
            started = one["startDate"].replace(microsecond=0)
            stopped = " stoppedAt:'%s'" % one["stopDate"].replace(microsecond=0) if one.get("stopDate") else ""
            print_data("sfn-%s startedAt:'%s'%s %s" % (one["name"], started, stopped, one["status"]))
        if not found:
            what = " ".join([*statuses, "executions"])
            self.obj.echo("No %s for *%s* found on AWS Step Functions." % (what, self.name()))


def _causes(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("error", "cause") if found.get(name)}


def _run_document(flow: str, one: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        "started": one["startDate"].isoformat(),
        "ended": one["stopDate"].isoformat() if one.get("stopDate") else None,
    }
    return {"run": "%s/sfn-%s" % (flow, one["name"]), "status": one["status"], **times}
