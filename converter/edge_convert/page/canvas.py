"""The paper that plots are drawn on: a phone's width, a frame with ticks, lines through places.

Colours are classes of the page's style: "source" and "artifact" are the two models, everywhere.
What a mouse shows on hovering is a <title>, which screen readers speak, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page.axes import Scale, tick_label
from edge_convert.page.markup import Markup, element, join

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 42


def frame(axes: tuple[str, str], scales: tuple[Scale, Scale]) -> Markup:
    """Grid, ticks and the names of both axes."""
    across, up = scales
    parts = []
    bottom = HEIGHT - BOTTOM
    for tick in across.ticks:
        x = x_of(across, tick)
        parts.append(path([(x, TOP), (x, bottom)], "grid"))
        parts.append(element("text", tick_label(tick), x=fixed(x), y=bottom + 15, text_anchor="middle"))
    for tick in up.ticks:
        y = y_of(up, tick)
        parts.append(path([(LEFT, y), (WIDTH - RIGHT, y)], "grid"))
        parts.append(element("text", tick_label(tick), x=LEFT - 5, y=fixed(y + 4), text_anchor="end"))
    parts.append(path([(LEFT, TOP), (LEFT, bottom), (WIDTH - RIGHT, bottom)], "axis"))
    middle = (TOP + bottom) / 2
    parts.append(
        element(
            "text",
            axes[0],
            x=fixed((LEFT + WIDTH - RIGHT) / 2),
            y=HEIGHT - 7,
            text_anchor="middle",
            class_="axis-title",
        )
    )
    parts.append(
        element(
            "text", axes[1], x=0, y=0, text_anchor="middle", class_="axis-title",
            transform=f"translate(11 {fixed(middle)}) rotate(-90)",
        )
    )  # fmt: skip
    return element("g", *parts)


def x_of(scale: Scale, value: float) -> float:
    """Where a value lies across the paper."""
    return scale.at(value, LEFT, WIDTH - RIGHT)


def y_of(scale: Scale, value: float) -> float:
    """Where a value lies, counted from the top."""
    return scale.at(value, HEIGHT - BOTTOM, TOP)


def path(places: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A line through places; `kind` is the class of its look."""
    return element("path", d="M" + "L".join(f"{fixed(x)} {fixed(y)}" for x, y in places), class_=kind)


def fixed(value: float) -> str:
    """A coordinate to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def svg(title: str, parts: Sequence[Markup], height: float) -> Markup:
    """The whole drawing, with a title that is spoken."""
    return element(
        "svg", element("title", title), join(parts), class_="plot", role="group", aria_label=title,
        viewBox=f"0 0 {WIDTH} {fixed(height)}",
    )  # fmt: skip
