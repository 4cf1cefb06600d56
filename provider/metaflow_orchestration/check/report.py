"""The result of a check: rows of one kind, which command lines print and CI reads as JSON.

Versions of the JSON:

* 1 (0.1.0): first release.
"""

# Without postponed annotations: msgspec would have to compile each of them when the module is imported.

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import msgspec

from metaflow_orchestration.documents.structs import built
from metaflow_orchestration.exceptions import MetaflowProviderError

VERSION = 1


class Topic(str, Enum):
    """What a row is about, in the order in which rows are shown."""

    SUPPORT = "support"
    NAME = "name"
    SIZE = "size"
    COST = "cost"
    SCHEDULE = "schedule"
    NEED = "need"


class State(str, Enum):
    """What a row means for the user."""

    OK = "ok"
    WARNING = "warning"
    """The deployment works, and does not do all that the flow may be taken to ask for."""
    EXCEEDED = "exceeded"
    """The flow deploys, but a run as wide as was asked about would break a quota."""
    REFUSED = "refused"
    """`create` refuses the flow."""


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was found out about a flow on one orchestrator.

    ```python
    from metaflow_orchestration.check import check_flow

    for row in check_flow("flows/training.py", ["step-functions"]).rows:
        print(row.subject, row.found, row.fix)
    ```

    New in version 0.1.0.

    :param target: the orchestrator: ``airflow``, ``argo`` or ``step-functions``.
    :param topic: what the row is about.
    :param subject: what exactly, e.g. ``definition`` or ``deployer``.
    :param found: what was found, for people.
    :param state: what it means.
    :param fix: what to do about it.
    :param amount: the number in `found`, if it is one.
    :param unit: its unit, e.g. ``bytes``.
    :param limit: the quota of the orchestrator for that number.
    :param share: `amount` as a share of `limit`; 1 is all of it.
    :param document: what `found` sums up, as JSON types, e.g. a statement of IAM.
    """

    target: str
    topic: Topic
    subject: str
    found: str
    state: State = State.OK
    fix: str = ""
    amount: float | int | None = None
    unit: str = ""
    limit: float | int | None = None
    share: float | None = None
    document: Any = None


@built
class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a flow.

    ```python
    from metaflow_orchestration.check import check_flow

    report = check_flow("flows/training.py")
    print(report.to_json())
    raise SystemExit(report.exit_code)
    ```

    New in version 0.1.0.

    :param flow: name of the flow, or its file if the name is not known.
    :param width: number of splits of each foreach for which sizes and costs were computed.
    :param rows: the rows, ordered by topic and target.
    :param version: version of the JSON.
    """

    flow: str
    width: int
    rows: tuple[Row, ...]
    version: int = VERSION

    @property
    def targets(self) -> tuple[str, ...]:
        """The orchestrators that were checked, in their order."""
        return tuple(dict.fromkeys(row.target for row in self.rows))

    def is_supported(self, target: str) -> bool:
        """Return whether an orchestrator accepts the flow.

        :param target: the orchestrator.
        :raises KeyError: if it was not checked.
        """
        if target not in self.targets:
            raise KeyError(target)
        return not any(row.state is State.REFUSED for row in self.rows if row.target == target)

    @property
    def exit_code(self) -> int:
        """0 if every checked orchestrator accepts the flow and runs it within its quotas, else 1; for CI."""
        return int(any(row.state in (State.REFUSED, State.EXCEEDED) for row in self.rows))

    def to_json(self) -> str:
        """Return the report as JSON; equal reports give equal texts."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()


def read_report(text: str | bytes) -> Report:
    """Return the report that a JSON text holds.

    :param text: what :meth:`Report.to_json` made.
    :raises ValueError: if it is none, or of another version.
    """
    report = msgspec.json.decode(text, type=Report)
    if report.version != VERSION:
        raise ValueError(f"the report has version {report.version}; this release reads version {VERSION}")
    return report


def make_report(flow: str, width: int, rows: Iterable[Row]) -> Report:
    """Return a report with its rows in order: by topic, and within a topic as they come.

    :param flow: name of the flow.
    :param width: number of splits of each foreach.
    :param rows: the rows.
    """
    order = list(Topic)
    return Report(flow=flow, width=width, rows=tuple(sorted(rows, key=lambda row: order.index(row.topic))))


def merged(flow: str, width: int, reports: Sequence[Report]) -> Report:
    """Return several reports of one flow as one.

    :param flow: name of the flow.
    :param width: number of splits of each foreach.
    :param reports: the reports, in the order of their orchestrators.
    """
    return make_report(flow, width, (row for one in reports for row in one.rows))


def refused(target: str, error: MetaflowProviderError) -> Row:
    """Return the row of a flow that an orchestrator refuses.

    :param target: the orchestrator.
    :param error: why.
    """
    subject = f"step {error.step}" if error.step else "flow"
    return Row(
        target=target,
        topic=Topic.SUPPORT,
        subject=subject,
        found=error.message,
        state=State.REFUSED,
        fix=error.hint or "",
    )


def sized(
    target: str, subject: str, amount: int, limit: int, unit: str, *, topic: Topic = Topic.SIZE, note: str = "",
    fix: str = "",
) -> Row:  # fmt: skip
    """Return the row of a number that has a quota.

    :param target: the orchestrator.
    :param subject: what has the size.
    :param amount: the number.
    :param limit: the quota.
    :param unit: unit of both, e.g. ``bytes``.
    :param topic: what the row is about.
    :param note: text after the number.
    :param fix: what to do where it is over the quota.
    """
    is_over = amount > limit
    return Row(
        target=target,
        topic=topic,
        subject=subject,
        found=f"{amount:,} of {limit:,} {unit}{note}",
        state=State.EXCEEDED if is_over else State.OK,
        fix=fix if is_over else "",
        amount=amount,
        unit=unit,
        limit=limit,
        share=amount / limit,
    )


def counted(target: str, subject: str, amount: float, unit: str, note: str = "") -> Row:
    """Return the row of a cost: a number without a quota.

    :param target: the orchestrator.
    :param subject: what is counted.
    :param amount: the number.
    :param unit: its unit, e.g. ``tasks``.
    :param note: text after the number.
    """
    number = f"{amount:,}" if isinstance(amount, int) else f"{amount:,.2f}"
    return Row(
        target=target, topic=Topic.COST, subject=subject, found=f"{number} {unit}{note}", amount=amount, unit=unit
    )


def need(target: str, subject: str, found: str, *, state: State = State.OK, fix: str = "", document: Any = None) -> Row:
    """Return the row of something that a deployment needs to be there.

    :param target: the orchestrator.
    :param subject: its kind, e.g. ``pool``.
    :param found: its name, or what it must allow.
    :param state: what it means.
    :param fix: how to make it.
    :param document: the whole of it as JSON types.
    """
    return Row(target=target, topic=Topic.NEED, subject=subject, found=found, state=state, fix=fix, document=document)


def named(target: str, subject: str, name: str, limit: int | None = None) -> Row:
    """Return the row of a name that a deployment has on an orchestrator.

    :param target: the orchestrator.
    :param subject: what has the name.
    :param name: the name.
    :param limit: how many characters the orchestrator accepts.
    """
    if limit is None:
        return Row(target=target, topic=Topic.NAME, subject=subject, found=name)
    return Row(
        target=target,
        topic=Topic.NAME,
        subject=subject,
        found=f"{name} ({len(name)} of {limit} characters)",
        amount=len(name),
        unit="characters",
        limit=limit,
        share=len(name) / limit,
    )
