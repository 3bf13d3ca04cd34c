"""Plots over two axes as SVG, drawn at a phone's width so that their text can be read on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_convert.page.axes import Scale, linear
from edge_convert.page.canvas import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    fixed,
    frame,
    path,
    svg,
    x_of,
    y_of,
)
from edge_convert.page.markup import Markup, element, prose

_LINE = 13  # height of a line of text


@dataclass(frozen=True)
class Point:
    """One point of a scatter plot.

    Args:
        weight: 0 to 1, of its area.
        kind: "good", "bad", "plain", "source" or "artifact".
        label: Written beside it; "" for none.
        hint: What it says when it is pointed at.
        link: Id of the element on the page that tells more, or "".
    """

    x: float
    y: float
    weight: float
    kind: str
    label: str
    hint: str
    link: str = ""


@dataclass(frozen=True)
class Polyline:
    """A line through places.

    Args:
        kind: Class of its look: "front", "between", "curve artifact".
    """

    places: tuple[tuple[float, float], ...]
    kind: str


@dataclass(frozen=True)
class Limit:
    """A line that should not be crossed.

    Args:
        axis: "x" or "y".
    """

    axis: str
    value: float
    label: str


def scatter(
    title: str,
    axes: tuple[str, str],
    points: Sequence[Point],
    scales: tuple[Scale, Scale],
    lines: Sequence[Polyline] = (),
    limits: Sequence[Limit] = (),
) -> Markup:
    """Points over two axes.

    Args:
        axes: What x and y are.
        lines: Drawn below the points.
        limits: Those outside the scales are left out.
    """
    across, up = scales
    parts = [frame(axes, scales)]
    for limit in limits:
        parts += _limit(limit, across, up)
    for one in lines:
        if len(one.places) > 1:
            parts.append(path([(x_of(across, a), y_of(up, b)) for a, b in one.places], one.kind))
    for point in sorted(points, key=lambda p: (p.kind == "good", -p.weight)):
        parts.append(_dot(point, x_of(across, point.x), y_of(up, point.y)))
    parts += _labels([(p.label, x_of(across, p.x), y_of(up, p.y)) for p in points if p.label])
    return svg(title, parts, HEIGHT)


def _dot(point: Point, x: float, y: float) -> Markup:
    radius = 3 + 6 * max(0.0, min(point.weight, 1.0)) ** 0.5
    hint = element("title", prose(point.hint))
    circle = element("circle", hint, class_=f"dot {point.kind}", cx=fixed(x), cy=fixed(y), r=fixed(radius))
    if not point.link:
        return circle
    return element("a", circle, href=f"#{point.link}", aria_label=point.hint)


def _labels(labels: Sequence[tuple[str, float, float]]) -> list[Markup]:
    """Labels beside their points; one that would lie on another moves down."""
    placed: list[tuple[float, float, float]] = []
    made = []
    for label, x, y in sorted(labels, key=lambda one: one[2]):
        wide = 6.2 * len(label)
        on_left = x + 14 + wide > WIDTH
        start = x - 14 - wide if on_left else x + 14
        line = max(y + 4, TOP + 8)
        for other_start, other_end, other_line in placed:
            if start < other_end and other_start < start + wide and abs(line - other_line) < _LINE:
                line = other_line + _LINE
        placed.append((start, start + wide, line))
        anchor = "end" if on_left else "start"
        made.append(
            element(
                "text",
                label,
                x=fixed(x - 14 if on_left else x + 14),
                y=fixed(line),
                text_anchor=anchor,
                class_="label",
            )
        )
    return made


def _limit(limit: Limit, across: Scale, up: Scale) -> list[Markup]:
    scale = across if limit.axis == "x" else up
    if not scale.low <= limit.value <= scale.high:
        return []
    if limit.axis == "x":
        x = x_of(across, limit.value)
        line = path([(x, TOP), (x, HEIGHT - BOTTOM)], "limit")
        return [
            line,
            element("text", limit.label, x=fixed(x - 4), y=TOP + 10, text_anchor="end", class_="limit-label"),
        ]
    y = y_of(up, limit.value)
    line = path([(LEFT, y), (WIDTH - RIGHT, y)], "limit")
    return [line, element("text", limit.label, x=LEFT + 4, y=fixed(y - 4), class_="limit-label")]


@dataclass(frozen=True)
class Step:
    """One place along a line.

    Args:
        hint: What it says when it is pointed at.
        marked: Whether it stands out.
    """

    value: float
    hint: str
    marked: bool = False


def line(title: str, axes: tuple[str, str], steps: Sequence[Step], limit: Limit | None = None) -> Markup:
    """Values in their order, joined by a line; the first place is 1."""
    across = linear([1, len(steps)], wanted=min(6, max(1, len(steps) - 1)))
    across = Scale(
        1 - 0.02 * len(steps), len(steps) + 0.02 * len(steps) + 0.1, _whole(across.ticks, len(steps))
    )
    up = linear([s.value for s in steps] + ([limit.value] if limit else []))
    places = [(x_of(across, i), y_of(up, s.value)) for i, s in enumerate(steps, 1)]
    parts = [frame(axes, (across, up))]
    if limit is not None:
        parts += _limit(limit, across, up)
    parts.append(path(places, "curve artifact"))
    for step, (x, y) in zip(steps, places, strict=True):
        kind = "dot bad" if step.marked else "dot artifact"
        hint = element("title", prose(step.hint))
        parts.append(
            element("circle", hint, class_=kind, cx=fixed(x), cy=fixed(y), r=5 if step.marked else 3)
        )
    return svg(title, parts, HEIGHT)


def _whole(ticks: Sequence[float], most: int) -> tuple[float, ...]:
    return tuple(t for t in ticks if t == int(t) and 1 <= t <= most)


def columns(title: str, axes: tuple[str, str], pairs: Sequence[tuple[str, float, float]]) -> Markup:
    """Two columns for each name, the source's and the artifact's, from zero.

    Args:
        pairs: Name, source, artifact.
    """
    up = linear([v for _, a, b in pairs for v in (a, b)], from_zero=True)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(pairs))
    across = Scale(0, 1, ())
    parts = [frame(axes, (across, up))]
    for index, (name, *values) in enumerate(pairs):
        for side, (kind, value) in enumerate(zip(("source", "artifact"), values, strict=True)):
            top, bottom = sorted((y_of(up, value), y_of(up, 0.0)))
            hint = element("title", prose(f"{name}: {kind} {value:.3g}"))
            x = LEFT + step * (index + 0.1 + 0.4 * side)
            parts.append(
                element(
                    "rect",
                    hint,
                    class_=kind,
                    x=fixed(x),
                    y=fixed(top),
                    width=fixed(0.38 * step),
                    height=fixed(bottom - top),
                )
            )
    return svg(title, parts, HEIGHT)


def histogram(title: str, axis: str, edges: Sequence[float], counts: Sequence[int]) -> Markup:
    """Counts between equally wide edges."""
    across = Scale(edges[0], edges[-1], tuple(t for t in linear(edges).ticks if edges[0] <= t <= edges[-1]))
    up = linear([0, *counts], from_zero=True)
    parts = [frame((axis, "count"), (across, up))]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right, top = x_of(across, low), x_of(across, high), y_of(up, count)
        hint = element("title", f"{count} between {low:.3g} and {high:.3g}")
        bottom = y_of(up, 0)
        parts.append(
            element(
                "rect",
                hint,
                class_="artifact",
                x=fixed(left),
                y=fixed(top),
                width=fixed(max(0.5, right - left - 1)),
                height=fixed(bottom - top),
            )
        )
    return svg(title, parts, HEIGHT)
