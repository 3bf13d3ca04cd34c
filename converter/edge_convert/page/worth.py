"""What the artifact is worth beside its source: metrics, and what each slice of the samples loses."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import figures, plots
from edge_convert.page.markup import Column, Fields, Markup, badge, folded, join, part, table
from edge_convert.page.plots import Span

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
    Column("group"), Column("slice"), Column("samples", True), Column("source", True),
    Column("artifact", True), Column("drop, points", True), Column(""),
)  # fmt: skip


def _slices(slices: Fields | None) -> Markup:
    rows: Sequence[Fields] = (slices or {}).get("rows") or []
    if not slices or not rows:
        return Markup()
    known = [r for r in rows if r.get("artifact") is not None]
    worst = sorted(known, key=lambda r: -(r.get("drop_points") or 0.0))[:SHOWN]
    metric = slices["metric"]
    spans = [
        Span(
            f"{r['group']} {r['name']} ({r['samples']})",
            None if r.get("source") is None else 100 * r["source"],
            100 * r["artifact"],
            _hint(r, metric),
            *_ends(r),
            kind={"fail": "bad", "pass": "good"}.get(r.get("verdict") or "", "plain"),
        )
        for r in worst
    ]
    cells = [
        (
            r["group"], r["name"], str(r["samples"]), figures.share(r.get("source")),
            figures.share(r.get("artifact")),
            "" if r.get("drop_points") is None else figures.signed(r["drop_points"], 1),
            badge(r.get("verdict") or ""),
        )
        for r in rows
    ]  # fmt: skip
    least = (
        f"The {len(worst)} slices that lose most."
        if len(worst) < len(rows)
        else "Slices that lose most come first."
    )
    limit = slices.get("limit_points")
    allowed = f" A slice may lose {figures.general(limit)} points." if limit is not None else ""
    return part(
        "Slices",
        plots.spans(f"{metric} by slice", f"{metric}, %", spans) if spans else "",
        plots.legend(("source", "source"), ("artifact", "artifact"))
        if any(s.source is not None for s in spans)
        else "",
        folded(f"All {len(rows)} slices", table(_SLICES, cells, "All slices")),
        note=least
        + allowed
        + " Bands are intervals of the artifact's figure; compression hurts small groups first.",
    )


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
