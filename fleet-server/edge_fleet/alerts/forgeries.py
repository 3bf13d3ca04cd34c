"""Measuring what came under a device's name and is not from it alone: forks, forgeries, replays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, select

from edge_fleet.alerts.machine import Finding
from edge_fleet.schema import forks, refused_messages

HOUR_MS = 3_600_000
BAD_SIGNATURES = ("signature-invalid", "key-unknown", "topic-mismatch")
FORKS = ("fork", "chain-broken")
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
    """What came in under a device's name and was refused; the last message is kept as it came."""
    rows = connection.execute(
        select(refused_messages)
        .where(
            refused_messages.c.reason.in_(list(reasons)), refused_messages.c.received_ms >= now_ms - HOUR_MS
        )
        .order_by(refused_messages.c.count)
    )
    for row in rows:
        times = row._mapping["count"]  # `count` is a method of rows
        yield Finding(
            rule,
            row.device,
            times,
            f"{times} refused as {row.reason} in its name; the last: {row.detail}",
            {"proof": "message", "reason": row.reason, "topic": row.topic, "at_ms": row.received_ms},
        )
