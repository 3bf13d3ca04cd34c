"""Bars as inline SVG: no script, no library, colours by the style sheet. Pure.

Lines over time and histograms are `plots.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup


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
