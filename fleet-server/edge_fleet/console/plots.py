"""Charts as inline SVG with axes and units, each with its numbers as a table. Pure.

No script, no library; colours are the style sheet's. A chart is about as wide as a phone, so that its letters
are as large as the page's. Times are UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

_Place = Callable[[float], float]
WIDTH, HEIGHT = 360, 178
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 20, 24  # room for the axes, and for marks above
LETTER_WIDTH = 7.0  # of a mark's name, about
TICKS = 4
TABLE_ROWS = 60  # the newest
COLOURS = "abcd"  # classes of the style sheet


@dataclass(frozen=True)
class Series:
    """A line.

    Args:
        points: Unix seconds and value, ascending.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Mark:
    """Something that happened at a time, such as another model."""

    at_s: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A picture and its numbers.

    Args:
        legend: Name and colour of each line; empty for a single one.
        rows: Time and values, newest first.
        key: Unique on its page.
    """

    key: str
    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def lines(
    key: str,
    title: str,
    unit: str,
    series: Sequence[Series],
    begin_s: float,
    end_s: float,
    marks: Iterable[Mark] = (),
    step_s: float = math.inf,
) -> Chart:
    """Lines over time, from zero; a line is broken where nothing was reported.

    Args:
        step_s: Time between points; a longer pause than two of them is a break.
    """
    kept = [one for one in series if one.points]
    if not kept:
        return Chart(key, title, Markup('<p class="quiet">Nothing was reported in this time.</p>'))
    top = nice(max(value for one in kept for _, value in one.points))
    span = max(end_s - begin_s, 1.0)

    def x(at_s: float) -> float:
        return LEFT + (at_s - begin_s) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    body = [_axes(top, unit, begin_s, end_s, x, y), *_marks(marks, begin_s, end_s, x)]
    for place, one in enumerate(kept):
        colour = COLOURS[place % len(COLOURS)]
        body.append(Markup('<path class="line {}" d="{}"/>').format(colour, _path(one.points, x, y, step_s)))
        body += [
            Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2"/>').format(colour, x(at), y(value))
            for at, value in _alone(one.points, step_s)
        ]
    last = ", ".join(f"{one.name} {say(one.points[-1][1])} {unit}" for one in kept)
    svg = Markup('<svg class="chart" role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>').format(
        WIDTH, HEIGHT, f"{title}, last: {last}", Markup("").join(body)
    )
    legend = tuple((one.name, COLOURS[n % len(COLOURS)]) for n, one in enumerate(kept)) if kept[1:] else ()
    columns = ("Time, UTC", *(f"{one.name}, {unit}" for one in kept))
    return Chart(key, title, svg, legend, columns, _rows(kept, end_s - begin_s > 2 * 86_400))


def histogram(
    key: str, title: str, edges: Sequence[float], baseline: Sequence[int], live: Sequence[int]
) -> Chart:
    """Shares of two samples over the same bins, side by side.

    Args:
        edges: Between the bins: one fewer than there are bins; the outer bins are open.
    """
    shares = [(a / (sum(baseline) or 1), b / (sum(live) or 1)) for a, b in zip(baseline, live, strict=True)]
    top = nice(100 * max(max(pair) for pair in shares))
    width = (WIDTH - LEFT - RIGHT) / len(shares)

    def y(percent: float) -> float:
        return HEIGHT - BOTTOM - percent / top * (HEIGHT - TOP - BOTTOM)

    body = list(_levels(top, "%", y))
    for place, pair in enumerate(shares):
        for side, share in enumerate(pair):
            body.append(
                Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    ("base", "live")[side],
                    LEFT + place * width + width * (0.08 + side * 0.42),
                    y(100 * share),
                    width * 0.4,
                    HEIGHT - BOTTOM - y(100 * share),
                )
            )
    shown = max(1, math.ceil(len(edges) / 5))
    for place, edge in enumerate(edges):
        if place % shown == 0:
            body.append(_word(LEFT + (place + 1) * width, HEIGHT - 8, say(edge), "middle"))
    svg = Markup('<svg class="chart" role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>').format(
        WIDTH, HEIGHT, f"{title}: share of values by bin, baseline and live", Markup("").join(body)
    )
    rows = tuple(
        (_bin(edges, place), f"{100 * a:.1f}", f"{100 * b:.1f}") for place, (a, b) in enumerate(shares)
    )
    return Chart(key, title, svg, (), ("Values", "Baseline, %", "Live, %"), rows)


def nice(value: float) -> float:
    """The next number at or above that people read easily: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def say(value: float) -> str:
    """A number in few characters."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * size or (size > 1e3 and abs(value) >= size):
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _axes(top: float, unit: str, begin_s: float, end_s: float, x: _Place, y: _Place) -> Markup:
    body = list(_levels(top, unit, y))
    form = "%d %b" if end_s - begin_s > 2 * 86_400 else "%H:%M"
    for tick in range(TICKS):
        at_s = begin_s + (end_s - begin_s) * tick / (TICKS - 1)
        anchor = "start" if tick == 0 else "end" if tick == TICKS - 1 else "middle"
        body.append(_word(x(at_s), HEIGHT - 8, datetime.fromtimestamp(at_s, UTC).strftime(form), anchor))
    return Markup("").join(body)


def _levels(top: float, unit: str, y: _Place) -> Iterable[Markup]:
    for share in (0.0, 0.5, 1.0):
        at = y(top * share)
        yield Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            "grid" if share else "axis", LEFT, WIDTH - RIGHT, at, at
        )
        yield _word(LEFT - 6, at + 4, say(top * share), "end")
    yield _word(LEFT - 6, TOP - 8, unit, "end")


def _marks(marks: Iterable[Mark], begin_s: float, end_s: float, x: _Place) -> Iterable[Markup]:
    free_x = float(LEFT)
    for mark in marks:
        if not begin_s <= mark.at_s <= end_s:
            continue
        at = x(mark.at_s)
        yield Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            at, TOP, HEIGHT - BOTTOM
        )
        width = LETTER_WIDTH * len(mark.name)
        name_x = max(float(LEFT), min(at, WIDTH - width))
        if name_x >= free_x:  # names that would overlap are left out; the line stays
            yield _word(name_x, TOP - 8, mark.name, "start", "series")
            free_x = name_x + width


def _word(x: float, y: float, text: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def _path(points: Sequence[tuple[float, float]], x: _Place, y: _Place, step_s: float) -> str:
    path: list[str] = []
    before = -math.inf
    for at, value in points:
        path.append(f"{'L' if at - before <= 2.5 * step_s and path else 'M'}{x(at):.1f} {y(value):.1f}")
        before = at
    return "".join(path)


def _alone(points: Sequence[tuple[float, float]], step_s: float) -> list[tuple[float, float]]:
    """The last point, and those that no line reaches."""
    limit = 2.5 * step_s
    found = []
    for place, (at, value) in enumerate(points):
        before = place > 0 and at - points[place - 1][0] <= limit
        after = place + 1 < len(points) and points[place + 1][0] - at <= limit
        if place + 1 == len(points) or not (before or after):
            found.append((at, value))
    return found


def _rows(series: Sequence[Series], with_date: bool) -> tuple[tuple[str, ...], ...]:
    form = "%d %b %H:%M" if with_date else "%H:%M:%S"
    by_time: dict[float, dict[str, float]] = {}
    for one in series:
        for at, value in one.points:
            by_time.setdefault(at, {})[one.name] = value
    newest = sorted(by_time, reverse=True)[:TABLE_ROWS]
    return tuple(
        (
            datetime.fromtimestamp(at, UTC).strftime(form),
            *(say(by_time[at][one.name]) if one.name in by_time[at] else "-" for one in series),
        )
        for at in newest
    )


def _bin(edges: Sequence[float], place: int) -> str:
    if not edges:
        return "all"
    if place == 0:
        return f"below {say(edges[0])}"
    if place == len(edges):
        return f"{say(edges[-1])} and above"
    return f"{say(edges[place - 1])} to {say(edges[place])}"
