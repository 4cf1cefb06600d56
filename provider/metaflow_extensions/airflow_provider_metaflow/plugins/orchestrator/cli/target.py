"""What an orchestrator brings for its command group; ``builder.make_group`` makes the commands of it.

A group is a package of this folder with a module ``group``: a class that follows :class:`Target`, and
``group = make_group(…)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from metaflow.exception import MetaflowException

from metaflow_orchestration.compile.deployment.options import DeployOptions
from metaflow_orchestration.compile.deployment.tokens import TokenOptions
from metaflow_orchestration.documents.manifest import Manifest, Notifications

if TYPE_CHECKING:
    # `create` loads this module, too, and does not need it.
    from metaflow_orchestration.check.target import Target as CheckTarget

Values = Mapping[str, Any]
"""Values of the options of a command, by click's names of them."""


@dataclass(frozen=True)
class VerbOptions:
    """The help of a verb, and those of its options that not all groups have.

    Example: ``VerbOptions("Show the status of a run.", [WATCH])``.

    :param help: what the verb does, for ``--help``.
    :param options: decorators of click, in the order of ``--help``.
    """

    help: str
    options: Sequence[Any] = ()


@dataclass(frozen=True)
class TargetOptions:
    """Options and texts of a command group.

    :param help: what the group is for.
    :param name_help: what ``--name`` names.
    :param deploy: options of ``create`` and ``check`` that decide how a flow is deployed.
    :param verbs: verbs of the group by name: those that :mod:`builder` knows, in the form of the command line.
    :param listing: name of the verb that lists deployments.
    :param variables: environment variables by the verbs that read them, see ``verb_help.Verbs``.
    """

    help: str
    name_help: str
    deploy: Sequence[Any]
    verbs: Mapping[str, VerbOptions]
    listing: str = "list-deployments"
    variables: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class DeployRequest:
    """What ``create``, ``check`` or ``test`` was asked for.

    :param options: values of :attr:`TargetOptions.deploy`, and of the verb's own options.
    :param tokens: options about the production token; None where nothing is deployed.
    :param file: the argument of ``create``.
    :param manifest_only: whether the manifest is written to the file, and nothing is deployed.
    :param is_trial: whether the flow is deployed for a run of `test` only.
    """

    options: Values
    tokens: TokenOptions | None = None
    file: str | None = None
    manifest_only: bool = False
    is_trial: bool = False

    def deploy_options(self, *, notifications: Notifications | None, upload: bool, **of_target: Any) -> DeployOptions:
        """Return the options for the compiler.

        :param notifications: who is notified of what.
        :param upload: whether the code package is uploaded.
        :param of_target: options that other targets do not have.
        """
        return DeployOptions(
            tags=tuple(self.options["tags"]),
            namespace=self.options["user_namespace"],
            max_workers=self.options["max_workers"],
            workflow_timeout=self.options["workflow_timeout"],
            project_root=self.options["project_root"],
            notifications=notifications,
            upload=upload,
            **of_target,
        )


@dataclass(frozen=True)
class ResumeRequest:
    """What ``resume`` was asked for.

    :param run_id: the argument.
    :param origin_run_id: ``--origin-run-id``.
    :param step_to_rerun: ``--step-to-rerun``.
    :param authorize: ``--authorize``.
    :param options: values of all other options, those of the flow's parameters among them.
    """

    run_id: str | None
    origin_run_id: str | None
    step_to_rerun: str | None
    authorize: str | None
    options: Values


class Runs(Protocol):
    """The runs of the deployment that a command line is about. Methods print what the user is shown."""

    def start(self, options: Values) -> str:
        """Start a run, and return its run id.

        :param options: values of the options of ``trigger``.
        """
        ...

    def resume(self, request: ResumeRequest) -> str | None:
        """Start a run that reuses results of another one, and return its run id; None if that one itself is resumed.

        :param request: which run, and how.
        """
        ...

    def show_link(self, run_id: str) -> None:
        """Print where the orchestrator's user interface has a run that was started.

        :param run_id: Metaflow run id.
        """
        ...

    def watch(self, run_id: str) -> None:
        """Print each new status of a run until it has ended, and exit with 1 if it failed: for scripts, as `run` does.

        :param run_id: Metaflow run id.
        """
        ...

    def status(self, run_id: str, *, watch: bool, as_json: bool) -> None:
        """Print the status of a run.

        :param run_id: Metaflow run id.
        :param watch: whether to wait for the end of the run, and exit with 1 if it failed.
        :param as_json: whether JSON is printed.
        """
        ...

    def list_runs(self, options: Values, *, as_json: bool) -> None:
        """Print the runs, the newest first.

        :param options: values of the options of ``list-runs``.
        :param as_json: whether JSON is printed.
        """
        ...

    def logs(self, run_id: str, options: Values) -> None:
        """Print what the tasks of a run have written.

        :param run_id: Metaflow run id.
        :param options: values of the options of ``logs``.
        """
        ...

    def change(self, verb: str, run_id: str, authorize: str | None) -> None:
        """Terminate, suspend or unsuspend a run.

        :param verb: which of them.
        :param run_id: Metaflow run id.
        :param authorize: ``--authorize``.
        """
        ...

    def delete(self, authorize: str | None, options: Values) -> None:
        """Delete the deployment.

        :param authorize: ``--authorize``.
        :param options: values of the options of ``delete``.
        """
        ...

    def deployments(self, flow: str | None, *, as_json: bool) -> None:
        """Print the deployments of a flow.

        :param flow: name of the flow; None for all flows.
        :param as_json: whether JSON is printed.
        """
        ...


class Target(Protocol):
    """An orchestrator, as its command group needs it.

    ``obj`` is the state of Metaflow's command line throughout. Errors of ours are shown as Metaflow's, see ``error``.
    """

    @property
    def name(self) -> str:
        """Name of the command group."""
        ...

    @property
    def title(self) -> str:
        """What messages call the orchestrator."""
        ...

    @property
    def error(self) -> type[MetaflowException]:
        """The error of Metaflow that shows errors of this package, with the headline of the orchestrator."""
        ...

    @property
    def options(self) -> TargetOptions:
        """Options and texts of the group."""
        ...

    @property
    def check_name(self) -> str:
        """Name of the orchestrator in the report of ``check``."""
        ...

    @property
    def what(self) -> str:
        """What messages call a deployment, e.g. ``Workflow``."""
        ...

    def select(self, obj: Any, name: str | None) -> None:
        """Note in ``obj`` which deployment the command is about.

        :param obj: state of Metaflow's command line.
        :param name: ``--name``.
        """
        ...

    def deployment_name(self, obj: Any) -> str:
        """Return the name of that deployment.

        :param obj: state of Metaflow's command line.
        """
        ...

    def compile(self, obj: Any, request: DeployRequest) -> Manifest:
        """Compile the flow, with the production token of its deployment; without tokens, nothing leaves this machine.

        :param obj: state of Metaflow's command line.
        :param request: what was asked for.
        :raises MetaflowProviderError: if the flow cannot be deployed like that.
        """
        ...

    def warnings(self, manifest: Manifest) -> Sequence[str]:
        """Return what the user should know before a flow is deployed.

        :param manifest: the compiled flow.
        """
        ...

    def deploy(self, obj: Any, manifest: Manifest, request: DeployRequest) -> Mapping[str, Any]:
        """Deploy a compiled flow, or print what would be deployed.

        :param obj: state of Metaflow's command line.
        :param manifest: the compiled flow.
        :param request: what was asked for.
        :return: what Metaflow's Deployer gets beside the name, as its ``additional_info``.
        """
        ...

    def print_checked(self, obj: Any, request: DeployRequest) -> bool:
        """Print what options of ``check`` ask for in the place of its report, and return whether they ask for anything.

        :param obj: state of Metaflow's command line.
        :param request: what was asked for.
        """
        ...

    def check_target(self, obj: Any, manifest: Manifest, request: DeployRequest) -> CheckTarget:
        """Return what ``check`` asks about the flow.

        :param obj: state of Metaflow's command line.
        :param manifest: the compiled flow.
        :param request: what was asked for.
        """
        ...

    def runs(self, obj: Any) -> AbstractContextManager[Runs]:
        """Return the runs of the deployment; connections are closed when it is left.

        :param obj: state of Metaflow's command line.
        """
        ...
