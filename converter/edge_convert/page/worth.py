"""What the artifact is worth beside its source: metrics, and what each slice of the samples loses."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import drawings, figures
from edge_convert.page.drawings import Span
from edge_convert.page.markup import Column, Fields, Markup, badge, element, folded, join, part, table

SHOWN = 12


def parts_of(profile: Fields) -> Markup:
    """Metrics and slices, as far as they were found out."""
    return join([_metrics(profile.get("metrics") or []), _slices(profile.get("slices"))])


_METRICS = (
    Column("metric"), Column("source", True), Column("artifact", True), Column("difference", True),
    Column("interval", True), Column("samples", True),
)  # fmt: skip


def _metrics(rows: Sequence[Fields]) -> Markup:
    if not rows:
        return Markup()
    cells = [
        (
            row.get("title") or row["name"],
            _value(row.get("source"), row.get("unit", "")),
            _value(row.get("artifact"), row.get("unit", "")),
            _value(row.get("difference"), row.get("unit", ""), plus=True),
            _interval(
                (row.get("intervals") or {}).get("difference")
                or (row.get("intervals") or {}).get("artifact"),
                row.get("unit", ""),
            ),
            str(row.get("samples", "")),
        )
        for row in rows
    ]
    level = rows[0].get("level")
    note = f"Intervals hold the true figure in {figures.share(level, 0)} of all cases." if level else ""
    return part("Metrics", table(_METRICS, cells, "Metrics of source and artifact"), note=note)


def _value(value: float | None, unit: str, plus: bool = False) -> str:
    if value is None:
        return ""
    if unit in ("share", "accuracy"):
        return f"{figures.signed(100 * value, 2, plus)} %"
    made = figures.signed(value, 3, plus) if abs(value) < 1000 else figures.general(value)
    return f"{made} {unit}".strip()


def _interval(ends: Sequence[float] | None, unit: str) -> str:
    return "" if not ends else f"{_value(ends[0], unit)} to {_value(ends[1], unit)}"


_SLICES = (
    Column("slice"), Column("samples", True), Column("source", True), Column("artifact", True),
    Column("drop", True), Column(""),
)  # fmt: skip


def _slices(slices: Fields | None) -> Markup:
    rows: Sequence[Fields] = (slices or {}).get("rows") or []
    if not slices or not rows:
        return Markup()
    ordered = sorted(rows, key=lambda r: -(r.get("drop_points") or 0.0))
    worst, others = ordered[:SHOWN], ordered[SHOWN:]
    least = f"The {SHOWN} that lose most." if others else "Those that lose most come first."
    limit = slices.get("limit_points")
    allowed = f" A slice may lose {figures.general(limit)} points." if limit is not None else ""
    numbers = table(_SLICES, [_cells(r) for r in worst], "Slices that lose most")
    drawn = _spans(worst, slices["metric"])
    return part(
        "Slices",
        element("div", drawn, numbers, class_="pair") if drawn else numbers,
        folded(f"{len(others)} more slices", table(_SLICES, [_cells(r) for r in others], "Other slices"))
        if others
        else "",
        note=f"{least}{allowed} Bands are intervals of the artifact's figure.",
    )


def _cells(row: Fields) -> tuple[object, ...]:
    drop = row.get("drop_points")
    return (
        f"{row['group']} {row['name']}",
        str(row["samples"]),
        _figure(row.get("source")),
        _figure(row.get("artifact")),
        "" if drop is None else figures.signed(drop, 1),
        badge(row.get("verdict") or ""),
    )


def _figure(value: float | None) -> str:
    """A share as percent; any other metric as it is."""
    return figures.share(value) if value is None or 0 <= value <= 1 else figures.general(value)


def _spans(rows: Sequence[Fields], metric: str) -> Markup:
    """What each slice was and is; nothing for metrics that are no shares."""
    known = [r for r in rows if r.get("artifact") is not None]
    values = [v for r in known for v in (r["artifact"], r.get("source")) if v is not None]
    if not known or not all(0 <= v <= 1 for v in values):
        return Markup()
    spans = [
        Span(
            f"{r['group']} {r['name']} ({r['samples']})",
            None if r.get("source") is None else 100 * r["source"],
            100 * r["artifact"],
            _hint(r, metric),
            *_ends(r),
            kind={"fail": "bad", "pass": "good"}.get(r.get("verdict") or "", "plain"),
        )
        for r in known
    ]
    drawn = drawings.spans(f"{metric} by slice", f"{metric}, %", spans)
    both = any(span.source is not None for span in spans)
    legend = drawings.legend(("source", "source"), ("artifact", "artifact")) if both else ""
    return element("div", drawn, legend)


def _hint(row: Fields, metric: str) -> str:
    drop = row.get("drop_points")
    lost = "" if drop is None else f", drop {figures.signed(drop, 1)} points"
    before = "" if row.get("source") is None else f"{figures.share(row['source'])} to "
    now = f"{before}{figures.share(row['artifact'])}{lost}"
    return f"{row['group']} {row['name']}: {metric} {now}, {row['samples']} samples"


def _ends(row: Fields) -> tuple[float | None, float | None]:
    """Interval of the artifact's figure, from that of the drop."""
    ends = row.get("interval_points")
    whole = row.get("source")
    if not ends:
        return None, None
    base = 100.0 if whole is None else 100 * whole
    return max(0.0, base - ends[1]), min(100.0, base - ends[0])
