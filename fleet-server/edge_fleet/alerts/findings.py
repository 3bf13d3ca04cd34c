"""Measuring: what the database says about each rule, as findings with their evidence.

Every question looks at the last hour, found by row ids, so that its cost grows with what happened in an hour
and not with what was ever stored. What is asked of a bundle's windows is in `of_bundles.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, func, or_, select, text

from edge_fleet.alerts.forgeries import bad_signatures, forked, replays
from edge_fleet.alerts.lately import HOUR_MS, first_id_since
from edge_fleet.alerts.machine import Finding
from edge_fleet.alerts.obedience import foreign_directors
from edge_fleet.alerts.of_bundles import FEW, drift, error_budget, latency, over
from edge_fleet.alerts.rules import RULES, Rule
from edge_fleet.schema import (
    devices,
    envelopes,
    events,
    gaps,
    streams,
    windows,
)
from edge_fleet.schema.telemetry import CLOCK_IS_WRONG

DISK_CODES = ("no-space", "outbox-unwritable")  # of events: full, or it takes nothing
COUNTED = 10_000  # envelopes above a hole; where there are more, the hole is told as its first number alone
PERSONAL_MOST = 20  # of one rule; beyond, one alert speaks for all

Source = Callable[[Connection, int], Iterator[Finding]]


def measure(
    connection: Connection,
    now_ms: int,
    open_subjects: Iterable[tuple[str, str]] = (),
    rules: Mapping[str, Rule] = RULES,
    usual_ms: Mapping[str, float] = MappingProxyType({}),
) -> list[Finding]:
    """Everything that the rules ask.

    Args:
        open_subjects: Rule and subject of alerts that are open: they are followed one by one also when
            there are many.
        rules: As they are in force.
        usual_ms: By bundle whose latency has an open alert the p95 that it was found slow beside.
    """
    found = [finding for source in SOURCES for finding in source(connection, now_ms)]
    found += _silence(connection, now_ms, rules["silence"].clear_at)
    found += latency(connection, now_ms, usual_ms)
    followed = frozenset(open_subjects)
    found += over(connection, followed - {(one.rule, one.subject) for one in found})
    return together(found, followed, rules)


def together(
    findings: Iterable[Finding],
    open_subjects: frozenset[tuple[str, str]],
    rules: Mapping[str, Rule] = RULES,
) -> list[Finding]:
    """Findings of very many devices under one rule become one about the fleet. Pure.

    Counted are those that would raise an alert each: who is quiet for six minutes is not one of the silent.
    """
    by_rule: dict[str, list[Finding]] = {}
    for finding in findings:
        by_rule.setdefault(finding.rule, []).append(finding)
    kept: list[Finding] = []
    for rule, all_of in by_rule.items():
        fresh = [one for one in all_of if (rule, one.subject) not in open_subjects]
        kept += [one for one in all_of if (rule, one.subject) in open_subjects]
        bad = [one for one in fresh if one.value >= rules[rule].raise_at]
        if rule not in _PER_DEVICE or len(bad) <= PERSONAL_MOST:
            kept += fresh
            continue
        worst = sorted(bad, key=lambda one: -one.value)
        names = [one.subject for one in worst[:FEW]]
        kept.append(
            Finding(
                rule,
                "fleet",
                worst[0].value,
                f"{len(bad)} devices; {worst[0].subject}: {worst[0].why}",
                {"devices": names, "count": len(bad)},
            )
        )
    return kept


def _gaps(connection: Connection, now_ms: int) -> Iterator[Finding]:
    since = first_id_since(connection, gaps, now_ms - HOUR_MS)
    by_device: dict[str, list[Any]] = {}
    for row in connection.execute(select(gaps).where(gaps.c.id >= since).order_by(gaps.c.id)):
        by_device.setdefault(row.device, []).append(row)
    for device, found in by_device.items():
        last, records = found[-1], sum(row.records for row in found)
        yield Finding(
            "gap",
            device,
            records,
            f"it signed that it lost {records} records, the last {last.first_seq}-{last.last_seq} of epoch "
            f"{last.epoch}: {last.reason}",
            {"proof": "gap", "epoch": last.epoch, "seq": last.first_seq, "last_seq": last.last_seq,
             "at_ms": last.received_ms},
        )  # fmt: skip


def _holes(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """Of devices that may still close them.

    A hole of an epoch that another has followed for an hour stays one for ever: nobody sends it any more.
    """
    later, own = streams.alias(), envelopes.c
    of_it = (own.device == streams.c.device, own.epoch == streams.c.epoch, own.seq > streams.c.high)
    # a device may go on for months above its hole: so many are counted, every fifteen seconds
    above = select(own.seq).where(*of_it).limit(COUNTED + 1).correlate(streams).subquery()
    rows = connection.execute(
        select(streams, select(func.count()).select_from(above).scalar_subquery().label("above"))
        .join(devices, devices.c.id == streams.c.device)
        .outerjoin(later, (later.c.device == devices.c.id) & (later.c.epoch == devices.c.epoch))
        .where(
            streams.c.top > streams.c.high,
            devices.c.revoked_ms.is_(None),
            or_(
                later.c.epoch.is_(None),
                later.c.epoch == streams.c.epoch,
                later.c.started_ms >= now_ms - HOUR_MS,
            ),
        )
        .order_by(streams.c.device, streams.c.started_ms)
    )
    for row in rows:
        missing = row.high + 1
        count = row.top - row.high - row.above if row.above <= COUNTED else 1
        others = f" and {count - 1} more" if count > 1 else ""
        yield Finding(
            "hole",
            row.device,
            count,
            f"envelope {missing} of epoch {row.epoch}{others} never came, though number {row.top} did, "
            "and the device does not own up to it",
            {"proof": "hole", "epoch": row.epoch, "seq": missing, "last_seq": row.top},
        )


def _silence(connection: Connection, now_ms: int, quiet_min: float) -> Iterator[Finding]:
    rows = connection.execute(
        select(devices.c.id, devices.c.last_seen_ms)
        .where(devices.c.revoked_ms.is_(None), devices.c.last_seen_ms < now_ms - round(60_000 * quiet_min))
        .order_by(devices.c.last_seen_ms)
    )
    for row in rows:
        minutes = (now_ms - row.last_seen_ms) / 60_000
        yield Finding(
            "silence",
            row.id,
            minutes,
            f"nothing verified came from it for {minutes:.{1 if minutes < 10 else 0}f} minutes",
            {"last_seen_ms": row.last_seen_ms},
        )


def _low_disk(connection: Connection, now_ms: int) -> Iterator[Finding]:
    since = first_id_since(connection, events, now_ms - HOUR_MS)
    rows = connection.execute(
        select(events.c.device, func.count().label("times"), func.max(events.c.detail).label("detail"),
               func.max(events.c.epoch).label("epoch"), func.max(events.c.seq).label("seq"))
        .where(events.c.id >= since, events.c.code.in_(DISK_CODES))
        .group_by(events.c.device)
    )  # fmt: skip
    for row in rows:
        yield Finding(
            "low-disk",
            row.device,
            row.times,
            f"it reports that its disk is full or takes nothing: {row.detail or DISK_CODES[0]}",
            {"proof": "envelope", "epoch": row.epoch, "seq": row.seq},
        )


def _clock(connection: Connection, now_ms: int) -> Iterator[Finding]:
    own = windows.c
    rows = connection.execute(
        select(own.device, own.epoch, own.seq, own.clock_step_ms, own.end_ms, own.received_ms)
        .where(own.received_ms >= now_ms - HOUR_MS, text(CLOCK_IS_WRONG))
        .order_by(own.received_ms, own.id)
    )
    worst: dict[str, Finding] = {}
    for row in rows:
        step_s, ahead_s = abs(row.clock_step_ms) / 1000, (row.end_ms - row.received_ms) / 1000
        value = max(step_s, ahead_s)
        if value > (worst[row.device].value if row.device in worst else 0):
            why = (
                f"its clock jumped by {row.clock_step_ms / 1000:.0f} s"
                if step_s >= ahead_s
                else f"its clock is {ahead_s:.0f} s ahead"
            )
            worst[row.device] = Finding(
                "clock", row.device, value, why, {"proof": "envelope", "epoch": row.epoch, "seq": row.seq}
            )
    yield from worst.values()


SOURCES: tuple[Source, ...] = (
    forked,
    bad_signatures,
    replays,
    foreign_directors,
    _gaps,
    _holes,
    drift,
    error_budget,
    _low_disk,
    _clock,
)
_PER_DEVICE = frozenset(
    {"fork", "bad-signature", "replay", "foreign-director", "gap", "hole", "silence", "low-disk", "clock"}
)
