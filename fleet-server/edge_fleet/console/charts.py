"""Small charts as inline SVG: no script, no library, colours by the style sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 130
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 22, 20  # room for the axis, and for the names of series above
NAME_WIDTH = 56.0  # of a dozen characters or so


@dataclass(frozen=True)
class Point:
    """One value at one time.

    Args:
        at_s: Unix seconds.
        series: What it belongs to, such as a model version; a change is marked.
    """

    at_s: float
    value: float
    series: str = ""


def line(points: Sequence[Point], title: str, unit: str, now_s: float) -> Markup:
    """A line over time, from zero, with a mark where the series changes."""
    if not points:
        return _empty(title)
    first = min(point.at_s for point in points)
    span = max(now_s - first, 1.0)
    top = max(point.value for point in points) or 1.0

    def x(at_s: float) -> float:
        return LEFT + (at_s - first) / span * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    marks, path, series, named_x = [], "", None, -NAME_WIDTH
    for point in sorted(points, key=lambda one: one.at_s):
        begins = point.series != series
        if begins and point.series:
            marks.append(
                Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
                    x(point.at_s), TOP, HEIGHT - BOTTOM
                )
            )
            name_x = min(x(point.at_s), WIDTH - NAME_WIDTH)
            if name_x >= named_x + NAME_WIDTH:  # names that would overlap are left out
                marks.append(
                    Markup('<text class="series" x="{:.1f}" y="{}">{}</text>').format(
                        name_x, TOP - 8, point.series
                    )
                )
                named_x = name_x
        path += f"{'M' if begins else 'L'}{x(point.at_s):.1f} {y(point.value):.1f}"
        series = point.series
    latest = max(points, key=lambda one: one.at_s)
    dot = Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(
        x(latest.at_s), y(latest.value)
    )
    body = Markup("").join(marks) + Markup('<path class="line" d="{}"/>').format(path) + dot
    minutes = span / 60
    ago = f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago"
    return _frame(
        f"{title}: now {latest.value:.3g} {unit}, at most {top:.3g} {unit}", body, f"{top:.3g}", ago
    )


def histogram(baseline: Sequence[int], live: Sequence[int], title: str) -> Markup:
    """Shares of two samples over the same bins, side by side."""
    bins = len(baseline)
    base_total, live_total = sum(baseline) or 1, sum(live) or 1
    shares = [(a / base_total, b / live_total) for a, b in zip(baseline, live, strict=True)]
    top = max((max(pair) for pair in shares), default=0.0) or 1.0
    width, height = 240.0, 70.0
    slot = width / bins
    bars = []
    for index, pair in enumerate(shares):
        for side, share in enumerate(pair):
            bars.append(
                Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                    ("base", "live")[side],
                    index * slot + side * slot * 0.45,
                    height * (1 - share / top),
                    slot * 0.4,
                    height * share / top,
                )
            )
    return Markup(
        '<svg class="histogram" role="img" viewBox="0 0 {:.0f} {:.0f}"><title>{}</title>{}</svg>'
    ).format(width, height, title, Markup("").join(bars))


def _frame(title: str, body: Markup, top: str, begin: str) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {w} {h}"><title>{title}</title>'
        '<line class="axis" x1="{left}" x2="{right}" y1="{base}" y2="{base}"/>'
        '<text x="{tick}" y="{head}" text-anchor="end">{top}</text>'
        '<text x="{tick}" y="{base}" text-anchor="end">0</text>'
        '<text x="{left}" y="{foot}">{begin}</text>'
        '<text x="{right}" y="{foot}" text-anchor="end">now</text>{body}</svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        title=title,
        left=LEFT,
        right=WIDTH - RIGHT,
        base=HEIGHT - BOTTOM,
        head=TOP + 4,
        foot=HEIGHT - 6,
        tick=LEFT - 4,
        top=top,
        begin=begin,
        body=body,
    )


def _empty(title: str) -> Markup:
    return Markup('<p class="quiet">{}: nothing reported yet</p>').format(escape(title))


def stacked(parts: Sequence[tuple[str, int]], title: str, total: int | None = None) -> Markup:
    """Counts beside each other in one bar; each is coloured by its word.

    Args:
        total: What a full bar stands for; None: all of the parts.
    """
    width = 300.0
    whole = max(sum(count for _, count in parts), total or 0) or 1
    told, x = [], 0.0
    for word, count in parts:
        part = width * count / whole
        if count:
            told.append(
                Markup('<rect class="{0}" x="{1:.2f}" y="0" width="{2:.2f}" height="10"/>').format(
                    word, x, part
                )
            )
        x += part
    words = ", ".join(f"{count} {word}" for word, count in parts if count) or "none"
    return Markup(
        '<svg class="stacked" role="img" viewBox="0 0 300 10" preserveAspectRatio="none">'
        '<title>{}: {}</title><rect class="ground" width="300" height="10"/>{}</svg>'
    ).format(title, words, Markup("").join(told))


def band(clear_at: float, raise_at: float, value: float | None, title: str) -> Markup:
    """Where a value is good, where it is bad, and between them, where it is what it was."""
    width = 240.0
    top = max(raise_at * 1.5, (value or 0.0) * 1.1, 1e-9)

    def x(at: float) -> float:
        return width * min(1.0, at / top)

    mark = Markup("")
    told = f"{title}: good up to {clear_at:g}, bad from {raise_at:g}"
    if value is not None:
        told += f", found {value:.4g}"
        mark = Markup('<path class="found" d="M{0:.1f} 0V16"/>').format(x(value))
    return Markup(
        '<svg class="band" role="img" viewBox="0 0 240 16" preserveAspectRatio="none"><title>{told}</title>'
        '<rect class="good" x="0" y="3" width="{clear:.1f}" height="10"/>'
        '<rect class="between" x="{clear:.1f}" y="3" width="{gap:.1f}" height="10"/>'
        '<rect class="bad" x="{bad:.1f}" y="3" width="{rest:.1f}" height="10"/>{mark}</svg>'
    ).format(
        told=told,
        clear=x(clear_at),
        gap=x(raise_at) - x(clear_at),
        bad=x(raise_at),
        rest=width - x(raise_at),
        mark=mark,
    )
