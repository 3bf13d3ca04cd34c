"""Judging some devices: what the database knows of each, worked up into its row of `standings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, select

from edge_contracts.sketch import Drift
from edge_fleet.assignment import WITHDRAWN, State
from edge_fleet.drifts import drifts_of
from edge_fleet.evidence import BundleFacts
from edge_fleet.lineage.withdrawn import told
from edge_fleet.reading import Exposure, Reading, sum_up
from edge_fleet.rollouts.readings import load_facts, reading_of
from edge_fleet.schema import assignments, devices, windows
from edge_fleet.standings.condition import ORDER, SILENT_AFTER_S, Condition, Health, condition

RECENT_MS = 15 * 60_000
NEVER_MS = 1 << 60
MOST_BUNDLES = 256  # of which baselines are kept


@dataclass(frozen=True)
class Judgement:
    """How one device is doing, and what of.

    Args:
        recent: Its windows of the last minutes, of the model that it runs.
        drifts: Of the same windows, one for each monitored number.
    """

    device: str
    condition: Condition
    recent: Exposure
    drifts: tuple[Drift, ...]

    @property
    def p95_ms(self) -> float | None:
        """Latency below which 95 of 100 inferences stayed."""
        return self.recent.latency_ms.quantile(0.95)

    @property
    def furthest(self) -> Drift | None:
        """The number furthest from its baseline."""
        return max(self.drifts, key=lambda one: one.distance, default=None)


class Baselines:
    """Bundles' baselines, read once as long as devices run them: a bundle never changes."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[str, BundleFacts] = {}

    def of(self, connection: Connection, digests: set[str]) -> Mapping[str, BundleFacts]:
        """What is known of some bundles; one that nobody published here is not in it."""
        missing = digests - self._known.keys()
        if missing:
            if len(self._known) > MOST_BUNDLES:  # of releases that are past, most of them
                self._known = {digest: self._known[digest] for digest in digests - missing}
            self._known.update(load_facts(connection, missing))
        return self._known


def judge(
    connection: Connection, names: Sequence[str], now_ms: int, baselines: Baselines
) -> list[tuple[Row[Any], Judgement]]:
    """Rows of `devices`, each with its judgement.

    Args:
        names: A few hundred at most.
    """
    rows = connection.execute(select(devices).where(devices.c.id.in_(names)).order_by(devices.c.id)).all()
    phases = _phases(connection, names)
    facts = baselines.of(connection, {bundle for row in rows if (bundle := active_of(row).get("bundle"))})
    known = {row.id: row for row in rows}
    judged = {}
    found = connection.execute(
        select(windows)
        .where(windows.c.device.in_(names), windows.c.received_ms >= now_ms - RECENT_MS)
        .order_by(windows.c.device, windows.c.id)
    )
    # device by device: all of them at once would be as many rows as the fleet's windows are frequent
    for name, own in groupby(found, key=lambda window: str(window.device)):
        # a second model sees only what another was unsure of
        recent = [window for window in own if (window.lineup or {}).get("role") != "second"]
        judged[name] = _judged(known[name], phases.get(name), recent, facts, now_ms)
    return [(row, judged.get(row.id) or _judged(row, phases.get(row.id), [], facts, now_ms)) for row in rows]


def standing(
    row: Row[Any], judged: Judgement, before: Row[Any] | None, now_ms: int, recheck_ms: int
) -> dict[str, Any]:
    """The row of `standings`.

    Args:
        before: The one that is there.
        recheck_ms: After how long a device that is well is looked at again.
    """
    active, health = active_of(row), judged.condition.health
    furthest = judged.furthest
    same = before is not None and before.health == health
    model = f"{active.get('name', '')} {active.get('version', '')}".strip()
    return {
        "device": row.id,
        "health": str(health),
        "rank": ORDER.index(health),
        "reason": judged.condition.reason[:300],
        "since_ms": before.since_ms if before is not None and same else now_ms,
        "profile": row.profile[0],
        "model": model,
        "bundle": active.get("bundle", ""),
        "degraded": int(bool(active.get("fallback"))),
        "fallback": active.get("fallback", ""),
        "words": _words(row, model, active),
        "inferences": judged.recent.inferences,
        "faults": judged.recent.errors + judged.recent.refused,
        "p95_ms": judged.p95_ms,
        "distance": furthest.distance if furthest else None,
        "furthest": furthest.name if furthest else "",
        "judged_ms": now_ms,
        "due_ms": _due_ms(row, health, now_ms, recheck_ms),
    }


def active_of(row: Row[Any]) -> Mapping[str, Any]:
    """What a device runs by its own last word; empty for nothing."""
    found: Mapping[str, Any] = (row.state or {}).get("active") or {}
    return found


def _due_ms(row: Row[Any], health: Health, now_ms: int, recheck_ms: int) -> int:
    if health is Health.REVOKED or row.last_seen_ms is None:
        return NEVER_MS
    if now_ms - row.last_seen_ms > 1000 * SILENT_AFTER_S:
        # its figures end with its windows; after that only a word from it changes anything
        later = row.last_seen_ms + RECENT_MS
        return int(later) if later > now_ms else NEVER_MS
    return int(min(now_ms + recheck_ms, row.last_seen_ms + 1000 * SILENT_AFTER_S + 1))


def _judged(
    row: Row[Any],
    phase: State | None,
    found: Sequence[Row[Any]],
    facts: Mapping[str, BundleFacts],
    now_ms: int,
) -> Judgement:
    bundle = active_of(row).get("bundle", "")
    own: list[Reading] = [reading_of(window) for window in found if window.bundle == bundle]
    recent = sum_up(own)
    drifts = drifts_of(facts[bundle].baseline, own) if bundle in facts else ()
    drifted = next((window.drifting for window in reversed(found) if window.bundle == bundle), ())
    found_so = condition(
        now_ms / 1000,
        None if row.last_seen_ms is None else row.last_seen_ms / 1000,
        row.revoked_ms is not None,
        phase,
        recent,
        drifts,
        drifted,
    )
    if found_so.health is Health.IDLE and not bundle and told(row.state):
        found_so = Condition(Health.IDLE, "no model answers: what ran here was withdrawn")
    return Judgement(row.id, found_so, recent, drifts)


def _phases(connection: Connection, names: Sequence[str]) -> dict[str, State]:
    """Where the newest assignment of each device stands, of those that were given something."""
    own = assignments.c
    last = (
        select(own.device, func.max(own.number).label("number"))
        .where(own.device.in_(names))
        .group_by(own.device)
        .subquery()
    )
    rows = connection.execute(
        select(own.device, own.phase)
        .join(last, (own.device == last.c.device) & (own.number == last.c.number))
        # one whose model was withdrawn has done as it was told
        .where(own.bundle.is_not(None), own.code != WITHDRAWN)
    )
    return {row.device: State(row.phase) for row in rows}


def _words(row: Row[Any], model: str, active: Mapping[str, Any]) -> str:
    """What a search looks through, a line for each thing: no word reaches into the next."""
    labels = (f"{key}={value}" for key, value in row.labels.items())
    found = (row.id, *row.profile, *labels, model, active.get("bundle", ""), active.get("runtime", ""))
    return "\n".join(found).lower()
