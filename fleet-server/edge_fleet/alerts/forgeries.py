"""Measuring what came under a device's name and is not from it alone: forks, forgeries, replays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, select

from edge_fleet.alerts.machine import Finding
from edge_fleet.schema import forks, refused_messages

HOUR_MS = 3_600_000
BAD_SIGNATURES = ("signature-invalid", "key-unknown", "topic-mismatch")
IN_TURNS = "two-memories"  # hellos of two epochs in turns; they are taken
FORKS = ("fork", "chain-broken", IN_TURNS)
# What a rule makes of refusals, by the reasons for which they were refused.
REFUSED = {"bad-signature": BAD_SIGNATURES, "fork": FORKS, "replay": ("replayed",)}


def forked(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """Histories that part: both forms are kept, or the envelope that does not follow."""
    rows = connection.execute(
        select(forks.c.device, forks.c.epoch, forks.c.seq, forks.c.received_ms)
        .where(forks.c.received_ms >= now_ms - HOUR_MS)
        .order_by(forks.c.received_ms)
    )
    by_device: dict[str, list[Any]] = {}
    for row in rows:
        by_device.setdefault(row.device, []).append(row)
    for device, found in by_device.items():
        last = found[-1]
        yield Finding(
            "fork",
            device,
            len(found),
            f"envelope {last.seq} of epoch {last.epoch} came in two forms, both signed by the device's key: "
            "its memory was set back, or its key is in two places",
            {"proof": "fork", "epoch": last.epoch, "seq": last.seq, "at_ms": last.received_ms},
        )
    for finding in _refused(connection, now_ms, "fork", FORKS[1:]):
        if finding.subject not in by_device:
            yield finding


def bad_signatures(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """What a device's key has not signed for the topic that it came on."""
    yield from _refused(connection, now_ms, "bad-signature", BAD_SIGNATURES)


def replays(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """Snapshots that are not newer than the last."""
    yield from _refused(connection, now_ms, "replay", REFUSED["replay"])


def _refused(connection: Connection, now_ms: int, rule: str, reasons: Iterable[str]) -> Iterator[Finding]:
    """What came in under a device's name and was refused; the last of each reason is kept as it came."""
    rows = connection.execute(
        select(refused_messages)
        .where(
            refused_messages.c.reason.in_(list(reasons)), refused_messages.c.received_ms >= now_ms - HOUR_MS
        )
        .order_by(refused_messages.c.received_ms)
    )
    by_device: dict[str, list[Any]] = {}
    for row in rows:
        by_device.setdefault(row.device, []).append(row._mapping)  # `count` is a method of rows
    for device, found in by_device.items():
        last = found[-1]
        yield Finding(
            rule,
            device,
            sum(row["count"] for row in found),
            f"{', '.join(_told(row) for row in reversed(found))}; the last: {last['detail']}",
            {
                "proof": "message",
                "reason": last["reason"],
                "topic": last["topic"],
                "at_ms": last["received_ms"],
            },
        )


def _told(row: Mapping[str, Any]) -> str:
    if row["reason"] == IN_TURNS:
        return f"two memories speak in turns, seen {row['count']} times: its key is in two places"
    return f"{row['count']} refused as {row['reason']} in its name"
