"""Small charts as SVG text, for pages that load nothing: bars and a histogram.

Every text is escaped here; numbers are formatted by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW = 24
_LABEL = 260
_BARS = 380
_VALUE = 130


@dataclass(frozen=True)
class Bar:
    """One bar of a chart.

    Args:
        length: In any unit, not negative; the longest fills the chart.
        text: What stands behind the bar, such as "24.6 dB".
        kind: Class name of its colour: "good", "bad" or "plain".
    """

    label: str
    length: float
    text: str
    kind: str = "plain"


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars from zero, in the order given."""
    longest = max((row.length for row in rows), default=0.0) or 1.0
    height = _ROW * len(rows) + 4
    lines = [
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {_LABEL + _BARS + _VALUE} {height}" '
        f'width="{_LABEL + _BARS + _VALUE}" height="{height}">'
    ]
    for index, row in enumerate(rows):
        top = index * _ROW + 2
        width = max(1.0, _BARS * max(row.length, 0.0) / longest)
        lines.append(
            f'<text x="{_LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(_short(row.label))}'
            f"<title>{escape(row.label)}</title></text>"
            f'<rect class="{escape(row.kind)}" x="{_LABEL}" y="{top + 3}" width="{width:.1f}" height="16"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{top + 15}">{escape(row.text)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def histogram(title: str, edges: Sequence[float], counts: Sequence[int]) -> str:
    """Counts between edges, with the outer edges and the middle written below."""
    width, height, base = 640, 170, 145
    step = width / max(len(counts), 1)
    tallest = max(counts, default=0) or 1
    lines = [
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">'
    ]
    for index, count in enumerate(counts):
        tall = (base - 5) * count / tallest
        if count:
            tall = max(tall, 1.0)
        lines.append(
            f'<rect class="plain" x="{index * step:.1f}" y="{base - tall:.1f}" width="{step - 1:.1f}" '
            f'height="{tall:.1f}"><title>{count}</title></rect>'
        )
    middle = (edges[0] + edges[-1]) / 2
    for x, anchor, value in (
        (0, "start", edges[0]),
        (width / 2, "middle", middle),
        (width, "end", edges[-1]),
    ):
        lines.append(f'<text x="{x}" y="{base + 18}" text-anchor="{anchor}">{value:.3g}</text>')
    return "\n".join([*lines, "</svg>"])


def _short(label: str, most: int = 36) -> str:
    """The end of a long name: the front is usually the same for all layers."""
    return label if len(label) <= most else "…" + label[-(most - 1) :]
