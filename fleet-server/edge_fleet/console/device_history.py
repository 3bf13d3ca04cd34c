"""What happened to one device, newest first, and how its chain of telemetry stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select

from edge_fleet.schema import alerts, envelopes, forks, rollout_members, streams

SHOWN = 60
STREAMS = 20
FOLDED = frozenset({"fork", "gap"})  # each of which is told by an alert too


@dataclass(frozen=True)
class Happening:
    """One line of the history."""

    at_ms: int
    kind: str
    what: str
    why: str = ""
    link: str = ""


@dataclass(frozen=True)
class Stream:
    """One telemetry outbox that the device had.

    Args:
        high: Every number up to this is stored or owned up to as lost; -1 for none.
        top: Largest stored number; above `high` there is a hole.
        stored: Envelopes that are kept.
        pruned_to: Numbers up to this were stored and deleted after their time.
        forks: Numbers under which two envelopes came.
    """

    epoch: str
    started_ms: int
    high: int
    top: int
    stored: int
    pruned_to: int
    forks: int

    @property
    def has_hole(self) -> bool:
        """Whether a number below the last is missing, and nobody owns up to it."""
        return self.top > self.high


def chain(connection: Connection, device: str) -> list[Stream]:
    """The device's streams, the newest first."""
    own = streams.c
    found = connection.execute(
        select(streams).where(own.device == device).order_by(own.started_ms.desc()).limit(STREAMS)
    ).all()
    return [
        Stream(
            row.epoch,
            row.started_ms,
            row.high,
            row.top,
            _count(connection, envelopes, device, row.epoch),
            row.pruned_to,
            _count(connection, forks, device, row.epoch),
        )
        for row in found
    ]


def history(connection: Connection, shown: Mapping[str, Any], versions: Mapping[str, str]) -> list[Happening]:
    """Everything that is known to have happened to it, the newest first.

    Args:
        shown: As `api.devices.show_device` gives it.
    """
    device = str(shown["id"])
    found = [
        *_life(shown),
        *_assignments(shown["assignments"], versions),
        *_events(shown["events"]),
        *_losses(connection, device, shown["gaps"]),
        *_alerts(connection, device),
    ]
    return fold(sorted(found, key=lambda one: -one.at_ms))[:SHOWN]


def fold(found: Sequence[Happening]) -> list[Happening]:
    """Say once what came several times in a row, as forks do: else they hide the rest of the history."""
    told: list[Happening] = []
    for (kind, _), run in itertools.groupby(found, key=lambda one: (one.kind, one.why)):
        first, *others = run
        if kind in FOLDED and others:
            first = replace(first, what=f"{first.what}; {len(others)} more of the kind before")
            others = []
        told += [first, *others]
    return told


def newest_rollout(connection: Connection, device: str) -> str | None:
    """The rollout that reached a device last."""
    own = rollout_members.c
    return connection.execute(
        select(own.rollout).where(own.device == device).order_by(own.number.desc()).limit(1)
    ).scalar()


def _count(connection: Connection, table: Any, device: str, epoch: str) -> int:
    query = select(func.count()).select_from(table)
    return connection.execute(query.where(table.c.device == device, table.c.epoch == epoch)).scalar_one()


def _life(shown: Mapping[str, Any]) -> Iterator[Happening]:
    yield Happening(shown["enrolled_ms"], "enrolled", "enrolled")
    if shown["revoked_ms"] is not None:
        yield Happening(shown["revoked_ms"], "revoked", "put out of the fleet")
    for stream in shown["streams"]:
        yield Happening(stream["started_ms"], "epoch", f"began epoch {stream['epoch']} of telemetry")


def _assignments(rows: Sequence[Mapping[str, Any]], versions: Mapping[str, str]) -> Iterator[Happening]:
    for one in rows:
        release = versions.get(one["bundle"], "nothing: keep what it has")
        link = f"/console/rollouts/{one['rollout']}" if one["rollout"] else ""
        by = f" by rollout {one['rollout']}" if one["rollout"] else " by hand"
        yield Happening(
            one["created_ms"], "assigned", f"assigned {release}{by}", f"no. {one['number']}", link
        )
        if one["changed_ms"] > one["created_ms"]:
            why = " ".join(part for part in (one["code"], one["detail"]) if part)
            yield Happening(one["changed_ms"], one["phase"], f"assignment no. {one['number']}", why, link)


def _events(rows: Sequence[Mapping[str, Any]]) -> Iterator[Happening]:
    for one in rows:
        why = " ".join(part for part in (one["code"], one["detail"]) if part)
        yield Happening(one["received_ms"], "reported", one["name"], why)


def _losses(connection: Connection, device: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Happening]:
    for one in rows:
        numbers = f"{one['first_seq']} to {one['last_seq']}"
        yield Happening(
            one["received_ms"],
            "gap",
            f"owned up to having lost envelopes {numbers} ({one['records']} records)",
            one["reason"],
        )
    own = forks.c
    split = connection.execute(
        select(own.epoch, own.seq, own.received_ms)
        .where(own.device == device)
        .order_by(own.received_ms.desc())
        .limit(SHOWN)
    )
    for row in split:
        yield Happening(
            row.received_ms,
            "fork",
            f"envelope {row.seq} came a second time with other bytes",
            "its memory was set back, or its key is in two places",
        )


def _alerts(connection: Connection, device: str) -> Iterator[Happening]:
    own = alerts.c
    rows = connection.execute(
        select(own.rule, own.why, own.phase, own.since_ms)
        .where(own.subject == device)
        .order_by(own.id.desc())
        .limit(SHOWN)
    )
    for row in rows:
        yield Happening(row.since_ms, "alert", f"alert {row.rule}, {row.phase}", row.why)
