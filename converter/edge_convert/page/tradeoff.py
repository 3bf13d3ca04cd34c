"""What there was to choose from: quality against speed and size, and the table of all candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_convert.page import drawings, figures, plots
from edge_convert.page.axes import linear, spread
from edge_convert.page.markup import (
    Column,
    Fields,
    Markup,
    badge,
    element,
    folded,
    fragment,
    part,
    quiet,
    row,
    table,
)
from edge_convert.page.plots import Limit, Point, Polyline

HIGHEST_DB = 60.0  # float forms reach 130, and would press all others into a corner
_KINDS = {"chosen": "good", "failed": "bad"}
_COLUMNS = (
    Column("candidate"),
    Column("precision"),
    Column(""),
    Column("size", number=True),
    Column("choosing", number=True),
    Column("held out", number=True),
    Column("same answer", number=True),
    Column("score", number=True),
    Column("time", number=True),
    Column("of source", number=True),
)


def part_of(document: Fields, profile: Fields) -> Markup:
    """The plots and the table; nothing without candidates."""
    candidates = profile.get("candidates") or []
    points = _points(profile)
    if not points:
        return Markup()
    shown = [_plot(document, profile, points, axis) for axis in _axes(points)]
    search = _search(profile.get("search"))
    kinds = [("good", "chosen")]
    kinds += [("bad", "failed a gate")] if any(p["state"] == "failed" for p in points) else []
    kinds += [("plain", "not needed")] if any(p["state"] not in _KINDS for p in points) else []
    return part(
        "What there was to choose from",
        search,
        element("div", *shown, class_="pair"),
        drawings.legend(*kinds),
        folded(f"All {len(candidates)} candidates", _table(profile, candidates)) if candidates else Markup(),
        note="Each dot is a candidate: higher is nearer to the source, further left is better, "
        "a larger dot is a larger file.",
    )


def _points(profile: Fields) -> list[Fields]:
    """The candidates as points: from `pareto` where the search left it, else from the candidates."""
    if profile.get("pareto"):
        return list(profile["pareto"])
    return [
        {
            "recipe": t["recipe"] + (" pruned" if t.get("pruned") else ""),
            "precision": t["precision"],
            "bytes": t["bytes"],
            "latency_ratio": t.get("latency_ratio"),
            "sqnr_db": t["selection"]["sqnr_db"],
            "agreement": t["selection"].get("agreement"),
            "state": t["state"],
        }
        for t in profile.get("candidates") or []
    ]


Axis = tuple[str, str, Callable[[Fields], float | None]]
_LATENCY: Axis = ("latency_ratio", "latency, share of the source's", lambda p: p.get("latency_ratio"))
_PREDICTED: Axis = ("predicted_us", "predicted time, µs", lambda p: p.get("predicted_us") or None)
_SIZE: Axis = ("bytes", "size, kB", lambda p: p["bytes"] / 1000)


def _axes(points: Sequence[Fields]) -> list[Axis]:
    """Speed as far as it is known of most, and size."""
    speed = next(
        (a for a in (_LATENCY, _PREDICTED) if sum(a[2](p) is not None for p in points) * 2 >= len(points)),
        None,
    )
    return [_SIZE] if speed is None else [speed, _SIZE]


def _plot(document: Fields, profile: Fields, points: Sequence[Fields], axis: Axis) -> Markup:
    name, title, across = axis
    known = [(x, p) for p in points if (x := across(p)) is not None]
    ratios = [p["sqnr_db"] for _, p in known if p["sqnr_db"] is not None]
    top = min(max(ratios, default=0.0) + 6, HIGHEST_DB)  # equal outputs have no ratio: they stand on top
    largest = max(p["bytes"] for _, p in known)
    made = [
        Point(
            x,
            top if p["sqnr_db"] is None else min(p["sqnr_db"], HIGHEST_DB),
            p["bytes"] / largest,
            _KINDS.get(p["state"], "plain"),
            _name(p) if p["state"] == "chosen" else "",
            _hint(p),
            fragment("candidate", profile["profile"], _name(p)) if profile.get("candidates") else "",
        )
        for x, p in known
    ]
    front = sorted(
        (x, top if p["sqnr_db"] is None else min(p["sqnr_db"], HIGHEST_DB))
        for x, p in known
        if p.get("on_front")
    )
    scales = spread([x for x, _ in known]), linear([p.y for p in made], padding=0.06)
    limits = []
    allowed = (document.get("limits") or {}).get("max_latency_ratio")
    if name == "latency_ratio" and allowed:
        limits.append(Limit("x", allowed, "limit"))
    return plots.scatter(
        f"Signal to noise against {title}",
        (title, f"signal to noise, dB{_capped(ratios)}"),
        made,
        scales,
        [Polyline(_envelope(front), "front")],
        limits,
    )


def _capped(ratios: Sequence[float]) -> str:
    return f" (to {HIGHEST_DB:g})" if max(ratios, default=0.0) > HIGHEST_DB else ""


def _envelope(front: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The part of a front that these two axes show: each point better than all to its left, in steps."""
    corners: list[tuple[float, float]] = []
    for x, y in front:
        if not corners or y > corners[-1][1]:
            corners += [(x, corners[-1][1])] if corners else []
            corners.append((x, y))
    return tuple(corners)


def _hint(point: Fields) -> str:
    facts = [
        _name(point),
        str(point["state"]),
        figures.size(point["bytes"]),
        figures.decibels(point["sqnr_db"]),
    ]
    if point.get("agreement") is not None:
        facts.append(f"same answer {figures.share(point['agreement'])}")
    if point.get("latency_ratio") is not None:
        facts.append(figures.times(point["latency_ratio"], "faster", "slower"))
    if point.get("predicted_us"):
        facts.append(f"predicted {figures.general(point['predicted_us'])} µs")
    return ", ".join(facts)


def _name(point: Fields) -> str:
    return str(point.get("name") or point["recipe"])


def _table(profile: Fields, trials: Sequence[Fields]) -> Markup:
    rows = []
    for trial in trials:
        score = trial.get("score") or {}
        named = trial.get("name") or trial["recipe"] + (" pruned" if trial.get("pruned") else "")
        cells = (
            named,
            trial["precision"],
            badge(trial["state"]),
            figures.size(trial["bytes"]),
            figures.decibels(trial["selection"]["sqnr_db"]),
            figures.decibels(score.get("sqnr_db")) if score else "",
            figures.share(score.get("agreement")),
            figures.share(score.get("artifact"), 2) if score.get("artifact") is not None else "",
            figures.milliseconds(trial.get("latency_ms")),
            "" if trial.get("latency_ratio") is None else f"{trial['latency_ratio']:.2f}",
        )
        rows.append(row(_COLUMNS, cells, id=fragment("candidate", profile["profile"], named)))
    return table(_COLUMNS, rows, "Candidates in the order in which they were judged")


def _search(search: Fields | None) -> Markup:
    """How the search for them went."""
    if not search:
        return Markup()
    budget = search.get("budget_s")
    words = f"{search['tried']} candidates were tried in {figures.general(search['used_s'], 2)} s"
    words += f" of {figures.general(budget)} s" if budget else ""
    words += f", preferring {search['prefer']}" if search.get("prefer") else ""
    return quiet(words + (f"; {search['ended']}" if search.get("ended") else "") + ".")
