"""Drawings without two axes: spans on one line, maps over a picture, bars in tables, the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_convert.page.axes import Scale, linear, tick_label
from edge_convert.page.canvas import WIDTH, fixed, path, svg
from edge_convert.page.markup import Markup, element, prose


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
        parts.append(path([(x, top), (x, bottom)], "grid"))
        parts.append(element("text", tick_label(tick), x=fixed(x), y=bottom + 14, text_anchor="middle"))
    for index, span in enumerate(rows):
        parts.append(_span(span, across, top + row * index))
    parts.append(element("text", axis, x=WIDTH / 2, y=height - 6, text_anchor="middle", class_="axis-title"))
    return svg(title, parts, height)


def _span(span: Span, across: Scale, top: float) -> Markup:
    y = top + 23

    def x(value: float) -> float:
        return across.at(value, 14, WIDTH - 14)

    parts = [
        element("title", prose(span.hint)),
        element("text", span.label, x=14, y=fixed(top + 12), class_="label"),
    ]
    if span.low is not None and span.high is not None:
        parts.append(path([(x(span.low), y), (x(span.high), y)], f"interval {span.kind}"))
    if span.source is not None:
        parts.append(path([(x(span.source), y), (x(span.artifact), y)], "between"))
        parts.append(element("circle", class_="dot source", cx=fixed(x(span.source)), cy=fixed(y), r=5))
    kind = "bad" if span.kind == "bad" else "artifact"
    parts.append(element("circle", class_=f"dot {kind}", cx=fixed(x(span.artifact)), cy=fixed(y), r=5))
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
            element(
                "image", href=picture, width=fixed(width), height=fixed(height), preserveAspectRatio="none"
            )
        )
        parts.append(element("rect", class_="veil", width=fixed(width), height=fixed(height)))
    for i, line_of_cells in enumerate(rows):
        for j, value in enumerate(line_of_cells):
            strength = min(1.0, abs(value) / strongest) if strongest > 0 else 0.0
            if strength < 0.02:
                continue
            hint = element("title", f"row {i + 1}, column {j + 1}: {value:+.3g}")
            parts.append(
                element(
                    "rect", hint, class_="for" if value > 0 else "against",
                    x=fixed(j * across), y=fixed(i * down), width=fixed(across), height=fixed(down),
                    opacity=f"{0.85 * strength:.3f}",
                )
            )  # fmt: skip
    return element(
        "svg",
        element("title", title),
        *parts,
        class_="map",
        role="img",
        viewBox=f"0 0 {fixed(width)} {fixed(height)}",
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
