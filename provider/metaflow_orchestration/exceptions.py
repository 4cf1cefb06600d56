"""Every error that this package raises, under one base class."""

from __future__ import annotations

from typing import ClassVar


class MetaflowProviderError(Exception):
    """Base of all errors of this package: what is wrong, where, and how to fix it.

    :param message: what is wrong, in one sentence.
    :param flow: name of the flow, or its file when the name is not known yet.
    :param step: name of the step the error is about, if it is about one.
    :param hint: what to do about it.
    """

    fix: ClassVar[str] = ""
    """What to do about errors of this class, for the page *Troubleshooting*; a message may have a better hint."""

    def __init__(
        self, message: str, *, flow: str | None = None, step: str | None = None, hint: str | None = None
    ) -> None:
        self.message = message
        self.flow = flow
        self.step = step
        self.hint = hint
        super().__init__(self._render())

    def _render(self) -> str:
        where = " ".join(
            part
            for part in (
                f"flow {self.flow}" if self.flow else "",
                f"step {self.step}" if self.step else "",
            )
            if part
        )
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by fields, so that an error survives a process boundary whole."""
        return (_rebuild, (type(self), self.message, self.flow, self.step, self.hint))


def _rebuild(
    cls: type[MetaflowProviderError], message: str, flow: str | None, step: str | None, hint: str | None
) -> MetaflowProviderError:
    return cls(message, flow=flow, step=step, hint=hint)


class ManifestError(MetaflowProviderError, ValueError):
    """A manifest that cannot be read: missing, cut short, edited, or of another version."""

    fix = "Run `airflow create` again. If the manifest comes from a newer release, upgrade this package in Airflow."


class CacheFolderError(MetaflowProviderError, RuntimeError):
    """The folder of compiled manifests and unpacked code is not private to this user, or cannot be written."""

    fix = (
        "Name a private folder of Airflow's user with `[metaflow] cache_folder`, or remove the "
        "folder: it can be rebuilt at any time."
    )


class FlowCompileError(MetaflowProviderError, ValueError):
    """A flow that does not import, fails Metaflow's lint, or cannot be packaged."""

    fix = "Run `python flow.py show` and `python flow.py check` with the same interpreter, and fix what they report."


class CompileServerError(MetaflowProviderError, RuntimeError):
    """The process that compiles flows in the background ended before its time."""

    fix = (
        "Nothing, if the next parse succeeds. Otherwise look at the log of the DAG processor, and "
        "at the memory of its machine."
    )


class UnsupportedFeatureError(MetaflowProviderError, NotImplementedError):
    """The flow uses a feature that the chosen orchestrator or compute cannot honour."""

    fix = "Follow the hint, or run the step or the flow elsewhere."


class InvalidOptionError(MetaflowProviderError, ValueError):
    """A deploy option or a DAG argument of ours with a wrong name or value."""

    fix = "Correct the option, the argument or the setting that the message names."


class ParameterValueError(MetaflowProviderError, ValueError):
    """A parameter value that does not fit the type of the flow's parameter."""

    fix = "Start the run again with a value of the parameter's type."


class StepFailedError(MetaflowProviderError, RuntimeError):
    """A Metaflow task exited with a failure; Airflow may retry it."""

    fix = "Read the log of the task: the error of your code is above this one."


class FinalFailureError(StepFailedError):
    """A Metaflow task exited with a failure that asks for no other attempt (exit code 202)."""

    fix = (
        "Read the log of the task. It is not tried again, since a retry would fail the same way; "
        "clear it after the fix."
    )


class StepNotRunnableError(MetaflowProviderError, RuntimeError):
    """A Metaflow task could not be started, e.g. because its worker lacks Metaflow or its code package."""

    fix = "Check that the worker has Metaflow and sees the datastore: `metaflow-airflow doctor` on the worker."


class MissingResultError(MetaflowProviderError, RuntimeError):
    """A task needs the result of a parent that has none, e.g. one that was marked as success by hand."""

    fix = "Clear the tasks that the message names, so that they run."


class RedeployedError(MetaflowProviderError, RuntimeError):
    """A run began with another graph of its flow than the one that is deployed now."""

    fix = "Clear the whole run on the latest version of the DAG, or start a new one."


class EditedXComError(MetaflowProviderError, ValueError):
    """An XCom that holds what the task which pushed it cannot have meant: it was edited, or is of another release."""

    fix = "Clear the task that pushed the XCom, so that it is written again."


class RunFailedError(MetaflowProviderError, RuntimeError):
    """A run that was waited for has failed."""

    fix = "Look at the tasks of that run; the message names it."


class MetaflowQueryError(MetaflowProviderError, RuntimeError):
    """Metaflow's metadata service or datastore gave no answer.

    :param transient: whether it may give one later.
    :param plain: whether the message is fit for everybody who may ask; others may hold details of the installation,
        and belong into a log.
    """

    fix = "Check the datastore and the metadata service, and the credentials of the process that asks."

    def __init__(self, message: str, *, transient: bool = False, plain: bool = False, **where: str | None) -> None:
        super().__init__(message, **where)
        self.transient, self.plain = transient, plain


class MissingExtraError(MetaflowProviderError, ImportError):
    """An optional dependency of this package is not installed."""

    fix = "Install the extra that the hint names, where the command or the task runs."
