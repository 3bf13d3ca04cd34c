"""Plots as SVG, drawn at a phone's width so that their text can be read on one.

Colours are classes of the page's style: "source" and "artifact" are the two models, everywhere.
What a mouse shows on hovering is a <title>, which screen readers speak, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_convert.page.axes import Scale, linear, tick_label
from edge_convert.page.markup import Markup, element, join, prose

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 42
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
    parts = [_frame(axes, scales)]
    for limit in limits:
        parts += _limit(limit, across, up)
    for one in lines:
        if len(one.places) > 1:
            parts.append(_path([(_x(across, a), _y(up, b)) for a, b in one.places], one.kind))
    for point in sorted(points, key=lambda p: (p.kind == "good", -p.weight)):
        parts.append(_dot(point, _x(across, point.x), _y(up, point.y)))
    parts += _labels([(p.label, _x(across, p.x), _y(up, p.y)) for p in points if p.label])
    return _svg(title, parts, HEIGHT)


def _dot(point: Point, x: float, y: float) -> Markup:
    radius = 3 + 6 * max(0.0, min(point.weight, 1.0)) ** 0.5
    hint = element("title", prose(point.hint))
    circle = element("circle", hint, class_=f"dot {point.kind}", cx=_f(x), cy=_f(y), r=_f(radius))
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
                x=_f(x - 14 if on_left else x + 14),
                y=_f(line),
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
        x = _x(across, limit.value)
        line = _path([(x, TOP), (x, HEIGHT - BOTTOM)], "limit")
        return [
            line,
            element("text", limit.label, x=_f(x - 4), y=TOP + 10, text_anchor="end", class_="limit-label"),
        ]
    y = _y(up, limit.value)
    line = _path([(LEFT, y), (WIDTH - RIGHT, y)], "limit")
    return [line, element("text", limit.label, x=LEFT + 4, y=_f(y - 4), class_="limit-label")]


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
    places = [(_x(across, i), _y(up, s.value)) for i, s in enumerate(steps, 1)]
    parts = [_frame(axes, (across, up))]
    if limit is not None:
        parts += _limit(limit, across, up)
    parts.append(_path(places, "curve artifact"))
    for step, (x, y) in zip(steps, places, strict=True):
        kind = "dot bad" if step.marked else "dot artifact"
        hint = element("title", prose(step.hint))
        parts.append(element("circle", hint, class_=kind, cx=_f(x), cy=_f(y), r=5 if step.marked else 3))
    return _svg(title, parts, HEIGHT)


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
    parts = [_frame(axes, (across, up))]
    for index, (name, *values) in enumerate(pairs):
        for side, (kind, value) in enumerate(zip(("source", "artifact"), values, strict=True)):
            top, bottom = sorted((_y(up, value), _y(up, 0.0)))
            hint = element("title", prose(f"{name}: {kind} {value:.3g}"))
            x = LEFT + step * (index + 0.1 + 0.4 * side)
            parts.append(
                element(
                    "rect",
                    hint,
                    class_=kind,
                    x=_f(x),
                    y=_f(top),
                    width=_f(0.38 * step),
                    height=_f(bottom - top),
                )
            )
    return _svg(title, parts, HEIGHT)


def histogram(title: str, axis: str, edges: Sequence[float], counts: Sequence[int]) -> Markup:
    """Counts between equally wide edges."""
    across = Scale(edges[0], edges[-1], tuple(t for t in linear(edges).ticks if edges[0] <= t <= edges[-1]))
    up = linear([0, *counts], from_zero=True)
    parts = [_frame((axis, "count"), (across, up))]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right, top = _x(across, low), _x(across, high), _y(up, count)
        hint = element("title", f"{count} between {low:.3g} and {high:.3g}")
        bottom = _y(up, 0)
        parts.append(
            element(
                "rect",
                hint,
                class_="artifact",
                x=_f(left),
                y=_f(top),
                width=_f(max(0.5, right - left - 1)),
                height=_f(bottom - top),
            )
        )
    return _svg(title, parts, HEIGHT)


@dataclass(frozen=True)
class Span:
    """What a figure was and what it is, in one line.

    Args:
        low, high: Interval of what it is, or None.
        kind: "good", "bad" or "plain": how it is judged.
    """

    label: str
    source: float | None
    artifact: float
    hint: str
    low: float | None = None
    high: float | None = None
    kind: str = "plain"


def spans(title: str, axis: str, rows: Sequence[Span]) -> Markup:
    """One line for each row: the source's figure, the artifact's, and the interval of the latter."""
    seen = [v for r in rows for v in (r.source, r.artifact, r.low, r.high) if v is not None]
    across = linear(seen)
    row, top = 34, 4
    height = top + row * len(rows) + 40
    bottom = top + row * len(rows)
    parts = []
    for tick in across.ticks:
        x = across.at(tick, 14, WIDTH - 14)
        parts.append(_path([(x, top), (x, bottom)], "grid"))
        parts.append(element("text", tick_label(tick), x=_f(x), y=bottom + 14, text_anchor="middle"))
    for index, span in enumerate(rows):
        parts.append(_span(span, across, top + row * index))
    parts.append(element("text", axis, x=WIDTH / 2, y=height - 6, text_anchor="middle", class_="axis-title"))
    return _svg(title, parts, height)


def _span(span: Span, across: Scale, top: float) -> Markup:
    y = top + 23

    def x(value: float) -> float:
        return across.at(value, 14, WIDTH - 14)

    parts = [
        element("title", prose(span.hint)),
        element("text", span.label, x=14, y=_f(top + 12), class_="label"),
    ]
    if span.low is not None and span.high is not None:
        parts.append(_path([(x(span.low), y), (x(span.high), y)], f"interval {span.kind}"))
    if span.source is not None:
        parts.append(_path([(x(span.source), y), (x(span.artifact), y)], "between"))
        parts.append(element("circle", class_="dot source", cx=_f(x(span.source)), cy=_f(y), r=5))
    kind = "bad" if span.kind == "bad" else "artifact"
    parts.append(element("circle", class_=f"dot {kind}", cx=_f(x(span.artifact)), cy=_f(y), r=5))
    return element("g", *parts)


def heat_map(
    title: str, rows: Sequence[Sequence[float]], strongest: float, picture: str, aspect: float
) -> Markup:
    """A map over a picture: what speaks for the answer in one colour, against it in another.

    Args:
        strongest: The absolute value that is drawn at full strength; the same for maps to be compared.
        picture: Data address of what lies below, or "".
        aspect: Width over height of the picture.
    """
    height = 100.0
    width = height * aspect
    down, across = height / len(rows), width / len(rows[0])
    parts = []
    if picture.startswith("data:image/png;base64,"):
        parts.append(
            element("image", href=picture, width=_f(width), height=_f(height), preserveAspectRatio="none")
        )
        parts.append(element("rect", class_="veil", width=_f(width), height=_f(height)))
    for i, line_of_cells in enumerate(rows):
        for j, value in enumerate(line_of_cells):
            strength = min(1.0, abs(value) / strongest) if strongest > 0 else 0.0
            if strength < 0.02:
                continue
            hint = element("title", f"row {i + 1}, column {j + 1}: {value:+.3g}")
            parts.append(
                element(
                    "rect", hint, class_="for" if value > 0 else "against", x=_f(j * across), y=_f(i * down),
                    width=_f(across), height=_f(down), opacity=f"{0.85 * strength:.3f}",
                )
            )  # fmt: skip
    return element(
        "svg",
        element("title", title),
        *parts,
        class_="map",
        role="img",
        viewBox=f"0 0 {_f(width)} {_f(height)}",
    )


def bar(share: float, kind: str) -> Markup:
    """One bar that fills a share of the place that it is given; for a cell of a table."""
    width = f"{100 * max(0.0, min(share, 1.0)):.1f}%"
    inside = element("rect", class_=kind, width=width, height="100%")
    return element("svg", inside, class_="bar", aria_hidden="true", width="100%", height="12")


def legend(*entries: tuple[str, str]) -> Markup:
    """What the colours are: (class, words) each."""
    made = (
        element(
            "span",
            element(
                "svg",
                element("circle", class_=f"dot {kind}", cx=6, cy=6, r=5),
                class_="key",
                viewBox="0 0 12 12",
                aria_hidden="true",
            ),
            words,
        )
        for kind, words in entries
    )
    return element("p", *made, class_="legend")


def _frame(axes: tuple[str, str], scales: tuple[Scale, Scale]) -> Markup:
    """Grid, ticks and the names of both axes."""
    across, up = scales
    parts = []
    bottom = HEIGHT - BOTTOM
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(_path([(x, TOP), (x, bottom)], "grid"))
        parts.append(element("text", tick_label(tick), x=_f(x), y=bottom + 15, text_anchor="middle"))
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(_path([(LEFT, y), (WIDTH - RIGHT, y)], "grid"))
        parts.append(element("text", tick_label(tick), x=LEFT - 5, y=_f(y + 4), text_anchor="end"))
    parts.append(_path([(LEFT, TOP), (LEFT, bottom), (WIDTH - RIGHT, bottom)], "axis"))
    middle = (TOP + bottom) / 2
    parts.append(
        element(
            "text",
            axes[0],
            x=_f((LEFT + WIDTH - RIGHT) / 2),
            y=HEIGHT - 7,
            text_anchor="middle",
            class_="axis-title",
        )
    )
    parts.append(
        element(
            "text", axes[1], x=0, y=0, text_anchor="middle", class_="axis-title",
            transform=f"translate(11 {_f(middle)}) rotate(-90)",
        )
    )  # fmt: skip
    return element("g", *parts)


def _x(scale: Scale, value: float) -> float:
    return scale.at(value, LEFT, WIDTH - RIGHT)


def _y(scale: Scale, value: float) -> float:
    return scale.at(value, HEIGHT - BOTTOM, TOP)


def _path(places: Sequence[tuple[float, float]], kind: str) -> Markup:
    return element("path", d="M" + "L".join(f"{_f(x)} {_f(y)}" for x, y in places), class_=kind)


def _f(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _svg(title: str, parts: Sequence[Markup], height: float) -> Markup:
    return element(
        "svg", element("title", title), join(parts), class_="plot", role="group", aria_label=title,
        viewBox=f"0 0 {WIDTH} {_f(height)}",
    )  # fmt: skip
