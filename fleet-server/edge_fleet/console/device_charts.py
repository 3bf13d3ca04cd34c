"""What one device reported over a stretch of time, as charts, and its live numbers beside the baseline.

An hour is drawn from the windows themselves, longer times from the sums that are kept by hour and by day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from edge_contracts.digest import short
from edge_contracts.sketch import MIN_SAMPLES, Drift, QuantileSketch, ScalarBaseline, compare
from edge_fleet.console import plots
from edge_fleet.console.plots import Chart, Mark, Series
from edge_fleet.drifts import DRIFT_SCALARS
from edge_fleet.evidence import BundleFacts
from edge_fleet.schema import windows
from edge_fleet.storage.rollups import DAY_S, HOUR_S, series


@dataclass(frozen=True)
class Span:
    """A stretch of time that can be asked for.

    Args:
        step_s: Between two points: of a window, about, or of a sum.
    """

    name: str
    length_s: int
    step_s: int
    each: str


SPANS = {
    "hour": Span("hour", 3_600, 60, "a window"),
    "day": Span("day", 86_400, HOUR_S, "an hour"),
    "week": Span("week", 7 * 86_400, HOUR_S, "an hour"),
    "quarter": Span("quarter", 91 * 86_400, DAY_S, "a day"),
}
MOST_WINDOWS = 400


@dataclass(frozen=True)
class Point:
    """What was reported of one bundle at one time."""

    at_s: float
    bundle: str
    inferences: int
    faults: int
    latency: QuantileSketch
    temperature_c: float | None
    memory_bytes: int
    scalars: Mapping[str, Sequence[int]]


def load(connection: Connection, device: str, span: Span, now_ms: int) -> list[Point]:
    """The points of a stretch, oldest first."""
    since_ms = now_ms - 1000 * span.length_s
    if span.step_s in (HOUR_S, DAY_S):
        rows = series(connection, span.step_s, since_ms, device)
        return [_point(row, row.start_ms, row.rss_bytes) for row in rows]
    own = windows.c
    found = connection.execute(
        select(
            own.received_ms,
            own.bundle,
            own.inferences,
            own.errors,
            own.refused,
            own.latency,
            own.temperature_c,
            own.rss_bytes,
            own.child_rss_bytes,
            own.scalars,
            own.epsilon,
            own.lineup,
        )
        .where(own.device == device, own.received_ms >= since_ms)
        .order_by(own.received_ms.desc())
        .limit(MOST_WINDOWS)
    ).all()
    # a second model sees only what another was unsure of
    return [
        _point(row, row.received_ms, row.rss_bytes + row.child_rss_bytes, noisy=row.epsilon is not None)
        for row in reversed(found)
        if (row.lineup or {}).get("role") != "second"
    ]


def draw(
    points: Sequence[Point],
    span: Span,
    versions: Mapping[str, str],
    facts: Mapping[str, BundleFacts],
    now_s: float,
) -> list[Chart]:
    """Work, faults, latency, temperature, memory and drift."""
    marks = list(_marks(points, versions))
    where = now_s - span.length_s, now_s, marks, float(span.step_s)

    def line(name: str, values: Sequence[tuple[float, float | None]]) -> Series:
        return Series(name, tuple((at, value) for at, value in values if value is not None))

    drifts = [(p.at_s, _distance(p, facts)) for p in points]
    return [
        plots.lines(
            "work",
            f"Inferences, {span.each}",
            "",
            [line("inferences", [(p.at_s, p.inferences) for p in points])],
            *where,
        ),
        plots.lines(
            "faults",
            f"Failed or refused, {span.each}",
            "",
            [line("without an answer", [(p.at_s, p.faults) for p in points])],
            *where,
        ),
        plots.lines(
            "latency",
            "Latency of an inference",
            "ms",
            [line(f"p{q}", [(p.at_s, p.latency.quantile(q / 100)) for p in points]) for q in (50, 95)],
            *where,
        ),
        plots.lines(
            "temperature",
            "Hottest zone",
            "°C",
            [line("temperature", [(p.at_s, p.temperature_c) for p in points])],
            *where,
        ),
        plots.lines(
            "memory",
            "Resident memory",
            "MiB",
            [line("memory", [(p.at_s, p.memory_bytes / (1 << 20)) for p in points])],
            *where,
        ),
        plots.lines("drift", "Drift of the furthest number, 0 to 1", "", [line("distance", drifts)], *where),
    ]


def against_baseline(
    points: Sequence[Point], bundle: str, facts: Mapping[str, BundleFacts]
) -> list[tuple[Drift, Chart]]:
    """Each monitored number of the running model, all live counts beside the baseline, furthest first."""
    if bundle not in facts:
        return []
    found = []
    for place, scalar in enumerate(facts[bundle].baseline.scalars[:DRIFT_SCALARS]):
        live = _live(points, bundle, scalar)
        if live is None:
            continue
        drift = compare(scalar, live)
        found.append(
            (drift, plots.histogram(f"baseline-{place}", scalar.name, scalar.edges, scalar.counts, live))
        )
    return sorted(found, key=lambda pair: -pair[0].distance)


def _live(points: Sequence[Point], bundle: str, scalar: ScalarBaseline) -> list[int] | None:
    """The sum of what was reported of a number; None where nothing was that has its bins."""
    counts = [
        p.scalars[scalar.name]
        for p in points
        if p.bundle == bundle and len(p.scalars.get(scalar.name, ())) == len(scalar.counts)
    ]
    return [sum(column) for column in zip(*counts, strict=True)] if counts else None


def _point(row: Any, at_ms: int, memory_bytes: int, noisy: bool = False) -> Point:
    return Point(
        at_s=at_ms / 1000,
        bundle=row.bundle,
        inferences=row.inferences,
        faults=row.errors + row.refused,
        latency=QuantileSketch(bins={int(index): count for index, count in row.latency.items()}),
        temperature_c=row.temperature_c,
        memory_bytes=memory_bytes,
        scalars={} if noisy else row.scalars,
    )


def _marks(points: Sequence[Point], versions: Mapping[str, str]) -> Iterator[Mark]:
    """Where another model takes over; the first is named too."""
    before = ""
    for point in points:
        if point.bundle != before:
            yield Mark(point.at_s, versions.get(point.bundle, short(point.bundle)))
            before = point.bundle


def _distance(point: Point, facts: Mapping[str, BundleFacts]) -> float | None:
    """Total variation of the number that is furthest from its baseline; None where too little is known."""
    if point.bundle not in facts:
        return None
    found = []
    for scalar in facts[point.bundle].baseline.scalars[:DRIFT_SCALARS]:
        live = point.scalars.get(scalar.name, ())
        total, base = sum(live), sum(scalar.counts)
        if len(live) == len(scalar.counts) and total >= MIN_SAMPLES and base:
            pairs = zip(live, scalar.counts, strict=True)
            found.append(sum(abs(a / total - b / base) for a, b in pairs) / 2)
    return max(found, default=None)
