"""The fleet as the server has recorded it, described for a dry run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, select

from edge_contracts.sketch import merge_quantiles
from edge_fleet.assignment import FAILED, WITHDRAWN, State
from edge_fleet.errors import NotFound
from edge_fleet.gates.install import RELEASE_FAULTS
from edge_fleet.panel import Floats
from edge_fleet.reading import Reading
from edge_fleet.rollouts.candidates import load_targets
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.preview import unmade
from edge_fleet.rollouts.readings import reading_of
from edge_fleet.rollouts.selector import parse
from edge_fleet.rollouts.windows import LABEL
from edge_fleet.schema import assignments, bundles, devices, windows
from edge_fleet.simulation.description import MOST_CLASSES, DeviceClass, FleetDescription

DAY_MS = 86_400_000
_MOST_WINDOWS = 200_000
_OF_THE_RELEASE = RELEASE_FAULTS | {WITHDRAWN, "downgrade", "operator"}
_NEARLY_ALL = 0.999  # a description takes no share of 1


class NothingRecorded(Exception):
    """There is nothing to describe: no device has reported yet, or none would get a release."""


class _Key(NamedTuple):
    """What devices of one class have in common.

    Args:
        bundle: Digest of what they get of a release; "" where none is asked for.
        named: Labels of a plan's stages that name them.
    """

    profile: str
    labels: tuple[tuple[str, str], ...]
    bundle: str = ""
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Reached:
    """Whom a plan reaches.

    Args:
        bundles: What each device that gets the release gets of it.
        without: Why devices that the plan names get nothing, and how many do not.
        asked: The labels that its stages ask for, and its windows.
        named: The labels of its stages that name each of those devices.
    """

    bundles: Mapping[str, str]
    without: Mapping[str, int]
    asked: frozenset[str]
    named: Mapping[str, tuple[str, ...]]


def describe(connection: Connection, now_ms: int, plan: RolloutPlan | None = None) -> FleetDescription:
    """The devices that are enrolled, by their last day: a class for each profile and set of labels.

    Args:
        plan: Of its devices only those that would get its release, a class for each profile, bundle, and set
            of the labels that its stages and windows ask for, and of the stages that name them; of one
            whose release is not published, all.

    Raises:
        NothingRecorded: There is no window to go by, or nobody would get the release.
    """
    reached = None if plan is None else _reached(connection, plan, now_ms)
    classes: dict[_Key, list[str]] = {}
    for row in connection.execute(select(devices).where(devices.c.revoked_ms.is_(None))):
        key = _Key(row.profile[0], tuple(sorted(row.labels.items())))
        if reached is not None:
            if (bundle := reached.bundles.get(row.id)) is None:
                continue
            asked = tuple(label for label in key.labels if label[0] in reached.asked)
            key = _Key(key.profile, asked, bundle, reached.named[row.id])
        classes.setdefault(key, []).append(row.id)
    if len(classes) > MOST_CLASSES:
        raise NothingRecorded(
            f"the fleet has {len(classes):,} classes of devices that differ in profile or labels, a "
            f"description takes {MOST_CLASSES}: describe it in a file (--fleet)"
        )
    rows = connection.execute(
        select(windows)
        .where(windows.c.received_ms >= now_ms - DAY_MS)
        .order_by(windows.c.id.desc())
        .limit(_MOST_WINDOWS)
    ).all()
    by_device: dict[str, list[Any]] = {}
    for row in rows:
        by_device.setdefault(row.device, []).append(row)
    if not by_device:
        raise NothingRecorded(
            "no device has reported in the last day: describe the fleet in a file (--fleet)"
        )
    installs = _installs(connection)
    return FleetDescription(
        classes=tuple(
            _class(
                key,
                names,
                by_device,
                installs,
                _archive_bytes(connection, key.profile, key.bundle or None),
                None if reached is None else key.named,
            )
            for key, names in sorted(classes.items())
        ),
        without=None if reached is None else reached.without,
    )


def _reached(connection: Connection, plan: RolloutPlan, now_ms: int) -> _Reached | None:
    """Whom a plan reaches; None when its release is not published.

    Raises:
        NothingRecorded: Nobody.
    """
    try:
        rollout = unmade(connection, plan, "", now_ms)
    except NotFound:
        return None
    bundles, named, without = {}, {}, Counter[str]()
    by_label = [stage for stage in plan.stages if stage.label is not None]
    for target in load_targets(connection, rollout, now_ms):
        if target.bundle is None:
            without[target.reason] += 1
            continue
        bundles[target.device] = target.bundle
        where = (target.device, target.profile, target.labels)
        named[target.device] = tuple(stage.label or "" for stage in by_label if stage.names(*where))
    if not bundles:
        why = "; ".join(f"{count}: {reason}" for reason, count in without.most_common(3))
        raise NothingRecorded(
            f"{plan.release} would reach no device: {why or f'none matches {plan.select!r}'}"
        )
    terms = [parse(stage.label).terms for stage in by_label if stage.label is not None]
    asked = {term.key for some in terms for term in some} | ({LABEL} if plan.windows else set())
    return _Reached(bundles, without, frozenset(asked), named)


def correlation(bad: Sequence[float], total: Sequence[float]) -> float:
    """Intra-class correlation of bad ones within clusters: the analysis-of-variance estimator.

    Ridout, Demetrio and Firth 1999, "Estimating intraclass correlation for binary data", eq. 2; 0 where
    there is too little to tell.
    """
    y, n = np.array(bad, dtype=np.float64), np.array(total, dtype=np.float64)
    y, n = y[n > 0], n[n > 0]
    clusters, trials, wrong = len(n), float(n.sum()), float(y.sum())
    if clusters < 2 or wrong in (0.0, trials) or trials <= clusters:
        return 0.0
    between = (float((y**2 / n).sum()) - wrong**2 / trials) / (clusters - 1)
    inside = (wrong - float((y**2 / n).sum())) / (trials - clusters)
    usual = (trials - float((n**2).sum()) / trials) / (clusters - 1)
    spread = between + (usual - 1) * inside
    return float(min(0.99, max(0.0, (between - inside) / spread))) if spread > 0 else 0.0


def _class(
    key: _Key,
    names: Sequence[str],
    by_device: Mapping[str, Sequence[Any]],
    installs: Mapping[str, tuple[State, float]],
    archive_bytes: int,
    named: tuple[str, ...] | None,
) -> DeviceClass:
    rows = [row for name in names for row in by_device.get(name, ())]
    readings = [reading_of(row) for row in rows]
    active = [r for r in readings if r.inferences + r.errors + r.refused]
    known: dict[str, Any] = _doubt(readings) | _installing([installs[n] for n in names if n in installs])
    if active:
        known |= {
            "window_s": max(1.0, float(np.median([row.duration_ms / 1000 / row.merged for row in rows]))),
            "silent": sum(name not in by_device for name in names) / len(names) * _NEARLY_ALL,
            **_errors(active),
            **_latency(readings),
            **_labels(readings, len(active)),
        }
    return DeviceClass(
        profile=key.profile,
        devices=len(names),
        labels=dict(key.labels),
        archive_bytes=archive_bytes,
        bundle=key.bundle,
        named=named,
        **known,
    )


def _errors(active: Sequence[Reading]) -> dict[str, float]:
    """How many inferences a window has, how many fail, and how alike windows and devices are in that.

    Args:
        active: Windows in which something was asked.
    """
    bad = [float(r.errors + r.refused) for r in active]
    asked = [float(r.inferences + r.errors + r.refused) for r in active]
    own: dict[str, list[float]] = {}
    for reading, wrong, all_of in zip(active, bad, asked, strict=True):
        sums = own.setdefault(reading.device, [0.0, 0.0])
        sums[0] += wrong
        sums[1] += all_of
    return {
        "inferences": max(1, round(float(np.mean(asked)))),
        "errors": min(_NEARLY_ALL, sum(bad) / sum(asked)),
        "between": correlation([s[0] for s in own.values()], [s[1] for s in own.values()]),
        "within": correlation(bad, asked),
    }


def _doubt(readings: Sequence[Reading]) -> dict[str, float]:
    """Shares of answers that nobody was sure of, and that a second model gave."""
    answers = sum(r.sure + r.second + r.uncertain for r in readings)
    if not answers:
        return {}
    return {
        "uncertain": min(_NEARLY_ALL, sum(r.uncertain for r in readings) / answers),
        "second": min(_NEARLY_ALL, sum(r.second for r in readings) / answers),
    }


def _labels(readings: Sequence[Reading], windows_active: int) -> dict[str, float]:
    """How many labels come with a window, and how many answers they say are wrong."""
    labelled = sum(r.labelled for r in readings)
    if not labelled:
        return {}
    return {
        "labels_per_window": max(1, round(labelled / windows_active)),
        "wrong": min(_NEARLY_ALL, 1 - sum(r.correct for r in readings) / labelled),
    }


def _installing(found: Sequence[tuple[State, float]]) -> dict[str, float]:
    """How many installations fail, and how long a good one takes."""
    known = {}
    if found:
        known["install_failures"] = min(_NEARLY_ALL, sum(state in FAILED for state, _ in found) / len(found))
    seconds = [took for state, took in found if state is State.CONFIRMED and took > 0]
    if seconds:
        known["install_s"] = max(1.0, float(np.median(seconds)))
    return known


def _latency(readings: Sequence[Reading]) -> dict[str, float]:
    """Median and spread over inferences, and over devices."""
    by_device: dict[str, list[Reading]] = {}
    for reading in readings:
        by_device.setdefault(reading.device, []).append(reading)
    middle, spread = [], []
    for own in by_device.values():
        sketch = merge_quantiles(r.latency_ms for r in own)
        half, high = sketch.quantile(0.5), sketch.quantile(0.95)
        if half and high:
            middle.append(math.log(half))
            spread.append(math.log(high / half) / 1.645)  # the p95 of a normal
    if not middle:
        return {}
    logs: Floats = np.array(middle)
    return {
        "latency_ms": float(np.exp(np.median(logs))),
        "latency_spread": float(min(3.0, max(0.01, np.median(spread)))),
        "latency_between": float(min(3.0, logs.std())),
    }


def _installs(connection: Connection) -> dict[str, tuple[State, float]]:
    """How the last assignment of each device ended, and after how many seconds.

    What failed for the release's own sake, or because it was not to be had there, says nothing of a good one.
    """
    query = select(
        assignments.c.device,
        assignments.c.phase,
        assignments.c.created_ms,
        assignments.c.changed_ms,
    ).where(assignments.c.bundle.is_not(None), assignments.c.code.not_in(sorted(_OF_THE_RELEASE)))
    return {
        row.device: (State(row.phase), (row.changed_ms - row.created_ms) / 1000)
        for row in connection.execute(query.order_by(assignments.c.device, assignments.c.number))
    }


def _archive_bytes(connection: Connection, profile: str, bundle: str | None) -> int:
    """Of a bundle, or of the newest for a profile."""
    query = select(bundles.c.archive_bytes)
    query = query.where(bundles.c.profile == profile if bundle is None else bundles.c.digest == bundle)
    return int(connection.execute(query.order_by(bundles.c.counter.desc()).limit(1)).scalar() or 0)
