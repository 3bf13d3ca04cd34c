"""What is wrong with a bundle, by what its devices report: drift, errors, latency.

A fleet of 100,000 reports six million windows in an hour: those are counted by the sums by minute, and single
devices are looked for among the newest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, union_all

from edge_contracts.digest import short
from edge_contracts.errors import FormatInvalid
from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.alerts.lately import DAY_MS, HOUR_MS, first_id_since
from edge_fleet.alerts.machine import Finding
from edge_fleet.lineage.find import manifest_of
from edge_fleet.schema import CHOICE, bundles, devices, rollups, windows
from edge_fleet.storage.rollups import FLEET, MINUTE_S, rolled_up_to

SHORT_MS = 600_000
NEWEST = 300_000  # windows: of 100,000 devices that report every minute, those of three minutes
LATEST = 20_000  # windows in which devices are looked for that failed
SAMPLE = 2000  # windows of a day that stand for all of them
MIN_ATTEMPTS, MIN_LATENCIES = 100, 100
MIN_SLOWER_MS = 1.0  # what is a fraction of a millisecond slower is as usual, however many times that is
DEFAULT_BUDGET = 0.01  # errors of attempts, of a bundle that nobody published here
FEW = 10  # devices named in one finding
OF_A_BUNDLE = frozenset({"drift", "error-budget", "latency"})

# windows of a device's second model, or of the other arm of its experiment
_BESIDE = windows.c.lineup["role"].as_string().in_(("arm-b", "second"))


def drift(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """By bundle: of the devices that reported it lately, how many drift by their newest window."""
    since = _newest(connection, now_ms, NEWEST)
    last = (
        select(func.max(windows.c.id))
        .where(windows.c.id >= since)
        .group_by(windows.c.device, windows.c.bundle)
    )
    rows = connection.execute(
        select(windows.c.device, windows.c.bundle, windows.c.drifting, windows.c.epoch, windows.c.seq)
        .where(windows.c.id.in_(last))
        .order_by(windows.c.device)
    )
    by_bundle: dict[str, list[Any]] = {}
    for row in rows:
        by_bundle.setdefault(row.bundle, []).append(row)
    for bundle, reported in by_bundle.items():
        found = reported
        if any(row.drifting for row in reported):
            # those that were put out, or have gone on to another bundle, say no more of this one
            have = (
                select(windows.c.device)
                .join(devices, devices.c.id == windows.c.device)
                .where(windows.c.id.in_(last), windows.c.bundle == bundle, devices.c.revoked_ms.is_(None))
                .where(or_(_answers_with(bundle), _BESIDE))
            )
            having = frozenset(connection.execute(have).scalars())
            found = [row for row in reported if row.device in having]
        if not found:
            continue
        drifting = [row for row in found if row.drifting]
        kinds = sorted({kind for row in drifting for kind in row.drifting})
        yield Finding(
            "drift",
            bundle,
            len(drifting) / len(found),
            f"{len(drifting)} of {len(found)} devices with {short(bundle)}: {', '.join(kinds) or 'no drift'}",
            {
                "devices": [row.device for row in drifting[:FEW]],
                "envelopes": [f"{row.device} {row.epoch}:{row.seq}" for row in drifting[:FEW]],
                "kinds": kinds,
            },
        )


def error_budget(connection: Connection, now_ms: int) -> Iterator[Finding]:
    """Google's SRE workbook, chapter 5: a long and a short time must both burn, so that it ends in time."""
    long_ago = _attempts(connection, now_ms - HOUR_MS)
    just_now = _attempts(connection, now_ms - SHORT_MS)
    budgets: dict[str, float] = {}
    failing = _failing(connection, now_ms)
    published = select(bundles.c.digest, bundles.c.manifest).where(bundles.c.digest.in_(list(just_now)))
    for row in connection.execute(published):
        with suppress(FormatInvalid):  # one that this release cannot read: the usual budget
            budgets[row.digest] = manifest_of(row.manifest).gates.max_error_rate
    for bundle, (errors, attempts) in just_now.items():
        all_errors, all_attempts = long_ago[bundle]
        if all_attempts < MIN_ATTEMPTS:
            continue
        budget = max(budgets.get(bundle, DEFAULT_BUDGET), 1e-6)
        rate = min(errors / attempts, all_errors / all_attempts)
        yield Finding(
            "error-budget",
            bundle,
            rate / budget,
            f"{all_errors} of {all_attempts} inferences of {short(bundle)} failed in an hour "
            f"({all_errors / all_attempts:.2%}, {errors / attempts:.2%} in the last ten minutes), "
            f"{budget:.2%} are allowed",
            {
                "errors": all_errors,
                "attempts": all_attempts,
                "budget": budget,
                "devices": failing.get(bundle, []),
            },
        )


def _attempts(connection: Connection, since_ms: int) -> dict[str, tuple[int, int]]:
    """Errors and attempts by bundle: of whole minutes that are summed up, and of the windows that are not."""
    day, own = rollups.c, windows.c
    minute_ms = 1000 * MINUTE_S
    first_new = max(rolled_up_to(connection) + 1, first_id_since(connection, windows, since_ms))
    summed = select(day.bundle, day.errors, day.inferences).where(
        day.step_s == MINUTE_S, day.device == FLEET, day.start_ms >= since_ms // minute_ms * minute_ms
    )
    new = select(own.bundle, own.errors, own.inferences).where(own.id >= first_new)
    both = union_all(summed, new).subquery()
    rows = connection.execute(
        select(both.c.bundle, func.sum(both.c.errors).label("errors"),
               func.sum(both.c.inferences).label("inferences"))
        .group_by(both.c.bundle)
    )  # fmt: skip
    found = ((row.bundle, int(row.errors), int(row.errors + row.inferences)) for row in rows)
    return {bundle: (errors, attempts) for bundle, errors, attempts in found if attempts}


def _failing(connection: Connection, now_ms: int) -> dict[str, list[str]]:
    """By bundle the devices with most errors among the newest windows, which are read by their ids."""
    own = windows.c
    rows = connection.execute(
        select(own.bundle, own.device, own.errors).where(
            own.id >= _newest(connection, now_ms, LATEST), own.errors > 0
        )
    )
    counted: dict[str, Counter[str]] = {}
    for row in rows:
        counted.setdefault(row.bundle, Counter())[row.device] += row.errors
    return {bundle: [name for name, _ in devices.most_common(FEW)] for bundle, devices in counted.items()}


def _newest(connection: Connection, now_ms: int, most: int) -> int:
    """First id of the windows of the last hour, or of so many of them."""
    newest = connection.execute(select(func.max(windows.c.id))).scalar() or 0
    return max(first_id_since(connection, windows, now_ms - HOUR_MS), newest - most)


def latency(connection: Connection, now_ms: int, usual_ms: Mapping[str, float]) -> Iterator[Finding]:
    """A bundle beside itself: p95 of the last hour over p95 of the day before that hour.

    While it is slow, the day that it was found slow beside stands: a twentieth of a day that is slow itself
    moves its p95, and what never became faster would end as usual.
    """
    hour = first_id_since(connection, windows, now_ms - HOUR_MS)
    day = first_id_since(connection, windows, now_ms - DAY_MS)
    newest = connection.execute(select(func.max(windows.c.id))).scalar() or 0
    now, before = _latencies(connection, hour, newest + 1), _latencies(connection, day, hour)
    for bundle in sorted(now.keys() & (before.keys() | usual_ms.keys())):
        usual = usual_ms.get(bundle)
        if usual is None and before[bundle].count >= MIN_LATENCIES:
            usual = before[bundle].quantile(0.95)
        if now[bundle].count < MIN_LATENCIES or not usual:
            continue
        p95 = now[bundle].quantile(0.95)
        if p95 is None or (p95 > usual and not _has_devices(connection, bundle)):
            continue
        times = p95 / usual if p95 - usual >= MIN_SLOWER_MS else min(p95 / usual, 1.0)
        before_what = "the day before" if bundle not in usual_ms else "the day before it became slow"
        yield Finding(
            "latency",
            bundle,
            times,
            f"p95 of {short(bundle)} is {p95:.3g} ms in the last hour, {usual:.3g} ms in {before_what}",
            {"p95_ms": p95, "before_ms": usual, "latencies": now[bundle].count},
        )


def _latencies(connection: Connection, first: int, end: int) -> dict[str, QuantileSketch]:
    """By bundle, of evenly spaced windows of a stretch: enough for a quantile, whatever the fleet's size."""
    stride = max(1, (end - first) // SAMPLE)
    rows = connection.execute(
        select(windows.c.bundle, windows.c.latency).where(windows.c.id.in_(list(range(first, end, stride))))
    )
    sketches: dict[str, list[QuantileSketch]] = {}
    for row in rows:
        bins = {int(index): count for index, count in row.latency.items()}
        sketches.setdefault(row.bundle, []).append(QuantileSketch(bins=bins))
    return {bundle: merge_quantiles(found) for bundle, found in sketches.items()}


def over(connection: Connection, unheard: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    """What is open on bundles of which nothing is reported because no device has them any more.

    That nothing is reported is no proof that all is well, where a device may just be silent. But where every
    device says that it runs something else (the release was taken back, or the next one came), it is over.
    """
    for rule, subject in unheard:
        if rule not in OF_A_BUNDLE:
            continue
        if not _has_devices(connection, subject):
            yield Finding(rule, subject, 0.0, "no device runs it any more, by the last word of each")


def _has_devices(connection: Connection, bundle: str) -> bool:
    """Whether any device says that it answers with a bundle, or reported it beside its first model."""
    runs = select(devices.c.id).where(devices.c.revoked_ms.is_(None), _answers_with(bundle))
    if connection.execute(runs.limit(1)).first() is not None:
        return True
    newest = connection.execute(select(func.max(windows.c.id))).scalar() or 0
    beside = (
        select(windows.c.id)
        .join(devices, devices.c.id == windows.c.device)
        .where(windows.c.id > newest - LATEST, windows.c.bundle == bundle, _BESIDE)
        .where(devices.c.revoked_ms.is_(None))
    )
    return connection.execute(beside.limit(1)).first() is not None


def _answers_with(bundle: str) -> ColumnElement[bool]:
    """Of a device: by its last word; a line of what it is chosen by (`schema/choice.py`)."""
    return CHOICE.contains(f"\n{bundle}\n")
