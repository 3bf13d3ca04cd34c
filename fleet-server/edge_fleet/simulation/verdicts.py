"""What the server made of each kind of simulated device: asked of its API, judged against what it should.

Pure but for `ask`. A kind is caught when each reason that it should be refused for was counted in its
devices' names, its alert is there, and its installations stand where they should; a kind that does
nothing wrong is unharmed when nothing of it was refused and all of it was acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from edge_fleet.client import Client
from edge_fleet.remote import API
from edge_fleet.simulation.counts import Counts
from edge_fleet.simulation.kinds import HONEST, KINDS, Kind
from edge_fleet.simulation.memory import Identity

FIRES = frozenset({"firing", "acknowledged", "silenced"})
KEEPS_SOME_BACK = frozenset({"hole"})  # kinds of which not everything can be acknowledged


class Verdict(StrEnum):
    """How a kind fared."""

    CAUGHT = "caught"
    UNHARMED = "unharmed"
    NOT_YET = "not yet"  # the alert takes longer, or no release was assigned
    HARMED = "HARMED"  # it did nothing wrong, and was refused or not acknowledged


@dataclass(frozen=True)
class Answers:
    """What the server says of devices.

    Args:
        refused: Counts by device and reason.
        alerts: Phases by rule and by device, bundle or "fleet" that it is about.
        named: Devices by rule that an alert about more than one names.
        phases: Newest assignment's by device.
    """

    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    alerts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    named: Mapping[str, frozenset[str]] = field(default_factory=dict)
    phases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One kind in the table at the end."""

    kind: str
    devices: int
    counts: Counts
    refused: Mapping[str, int]
    alerts: tuple[str, ...]
    phases: Mapping[str, int]
    verdict: Verdict
    why: str


def ask(client: Client, with_phases: bool = True) -> Answers:
    """Ask the server."""
    alerts = client.get(f"{API}/alerts", most=1000)
    named: dict[str, frozenset[str]] = {}
    for one in alerts:
        more = one["evidence"].get("devices", ())
        named[one["rule"]] = named.get(one["rule"], frozenset()) | frozenset(more)
    devices = client.get(f"{API}/devices") if with_phases else ()
    return Answers(
        {(row["device"], row["reason"]): row["count"] for row in client.get(f"{API}/refusals")},
        {(one["rule"], one["subject"]): one["phase"] for one in alerts},
        named,
        {row["id"]: row["assignment"]["phase"] for row in devices if row["assignment"]},
    )


def rows(
    identities: Iterable[Identity], counted: Mapping[str, Counts], before: Answers, after: Answers
) -> list[Row]:
    """Each kind that took part, the honest ones first.

    Args:
        before: What the server said when the run began: its counts are of all times.
    """
    by_kind: dict[str, list[str]] = {}
    for identity in identities:
        by_kind.setdefault(identity.kind, []).append(identity.device)
    return [
        _row(KINDS[name], frozenset(devices), counted.get(name, Counts()), before, after)
        for name, devices in sorted(by_kind.items(), key=lambda item: (item[0] != HONEST, item[0]))
    ]


def _row(kind: Kind, devices: frozenset[str], counts: Counts, before: Answers, after: Answers) -> Row:
    refused: Counter[str] = Counter()
    for (device, reason), count in after.refused.items():
        if device in devices:
            refused[reason] += count - before.refused.get((device, reason), 0)
    refused = +refused
    alerts: set[str] = set()
    for (rule, subject), phase in after.alerts.items():
        if subject in devices or after.named.get(rule, frozenset()) & devices:
            alerts.add(rule if phase in FIRES else f"{rule} ({phase})")
    phases = Counter(after.phases[device] for device in devices if device in after.phases)
    for phase, count in counts.ended.items():
        name = phase.replace("_", "-")  # the contract's word and the server's
        phases[name] = max(phases[name], count)
    verdict, why = judge(kind, counts, refused, alerts, phases)
    return Row(
        kind.name, len(devices), counts, dict(refused), tuple(sorted(alerts)), dict(phases), verdict, why
    )


def judge(
    kind: Kind, counts: Counts, refused: Mapping[str, int], alerts: set[str], phases: Mapping[str, int]
) -> tuple[Verdict, str]:
    """How a kind fared, and why."""
    is_wrong = bool(kind.refused or kind.alert or kind.phases)
    if not kind.refused and refused:
        return Verdict.HARMED, f"refused: {_counted(refused)}"
    missing = counts.envelopes - counts.acknowledged
    if not kind.refused and missing > 0 and kind.name not in KEEPS_SOME_BACK:
        return Verdict.HARMED, f"{missing} of {counts.envelopes} envelopes are not acknowledged"
    if not is_wrong:
        return Verdict.UNHARMED, kind.answer
    waits = [f"no {reason}" for reason in kind.refused if not refused.get(reason)]
    if kind.alert and kind.alert not in alerts:
        pending = f"{kind.alert} (pending)" in alerts
        waits.append(f"the alert {kind.alert} " + ("is pending" if pending else "is not there"))
    if kind.phases and not any(phases.get(phase) for phase in kind.phases):
        waits.append(f"no installation is {kind.phases[0]}; roll a release out")
    return (Verdict.NOT_YET, "; ".join(waits)) if waits else (Verdict.CAUGHT, kind.answer)


def lines(found: Iterable[Row]) -> list[tuple[str, ...]]:
    """The table, header first."""
    header = (
        "kind",
        "devices",
        "sent",
        "wrong",
        "acknowledged",
        "refused as",
        "alerts",
        "installations",
        "verdict",
    )
    return [
        header,
        *(
            (
                row.kind,
                str(row.devices),
                str(row.counts.envelopes),
                str(row.counts.wrong),
                str(row.counts.acknowledged),
                _counted(row.refused) or "-",
                ", ".join(row.alerts) or "-",
                _counted(row.phases) or "-",
                row.verdict
                if row.verdict in (Verdict.CAUGHT, Verdict.UNHARMED)
                else f"{row.verdict}: {row.why}",
            )
            for row in found
        ),
    ]


def as_dict(row: Row) -> dict[str, Any]:
    """A row for a program."""
    counts = asdict(row.counts)
    counts.pop("lags")
    counts["ended"] = dict(row.counts.ended)  # asdict() takes the pairs of a Counter for its keys
    return {
        "kind": row.kind,
        "devices": row.devices,
        **counts,
        "lag_ms": {"p50": row.counts.lag_ms(0.5), "p99": row.counts.lag_ms(0.99)},
        "refused": dict(row.refused),
        "alerts": list(row.alerts),
        "installations": dict(row.phases),
        "verdict": row.verdict,
        "why": row.why,
    }


def _counted(what: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(what.items()) if count)
