"""Where the noise comes from: how it grows on the way through the network, and what each layer adds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from edge_convert.page import drawings, figures, plots
from edge_convert.page.markup import Column, Fields, Markup, element, folded, join, part, quiet, row, table
from edge_convert.page.plots import Step

SHOWN = 8
_LOWEST_DB = -40.0  # below nothing is left, and a plot to -300 would show nothing else
_COLUMNS = (Column("layer"), Column("noise"), Column("", True), Column("", True))


def part_of(profile: Fields) -> Markup:
    """Both plots; nothing for an artifact that is not quantized."""
    depth, layers = profile.get("depth") or [], profile.get("layers") or []
    sides = [side for side in (_depth(depth), _costs(layers)) if side]
    return part("Where the noise comes from", element("div", *sides, class_="pair")) if sides else Markup()


def _depth(layers: Sequence[Fields]) -> Markup:
    known = [c for c in layers if c["sqnr_db"] is not None]
    if len(known) < 2:
        return Markup()
    values = [max(c["sqnr_db"], _LOWEST_DB) for c in known]
    falls = [a - b for a, b in pairwise(values)]
    worst = max(range(len(falls)), key=falls.__getitem__) + 1
    steps = [
        Step(
            value,
            f"{i + 1}. {_name(c)}: {figures.decibels(c['sqnr_db'])}",
            i == worst and falls[worst - 1] > 0,
        )
        for i, (c, value) in enumerate(zip(known, values, strict=True))
    ]
    deepest = ""
    if falls[worst - 1] > 0:
        fall = figures.signed(falls[worst - 1], 1)
        deepest = f"The deepest fall, {fall} dB, is at layer {worst + 1}: {_name(known[worst])}."
    return element(
        "div",
        element("h4", "All layers quantized, from input to output"),
        plots.line("Signal to noise by layer", ("layer", "signal to noise, dB"), steps),
        quiet(deepest) if deepest else "",
    )


def _costs(layers: Sequence[Fields]) -> Markup:
    """Noise of each layer as amplitude relative to the signal: lengths that can be compared."""
    if not layers:
        return Markup()
    noises = [100 * 10 ** (-max(c["sqnr_db"], _LOWEST_DB) / 20) for c in layers]
    largest = max(noises)
    rows = [
        row(
            _COLUMNS,
            (
                _name(c), Markup(drawings.bar(noise / largest, "artifact")), f"{noise:.2g} %",
                figures.decibels(c["sqnr_db"]),
            ),
        )
        for c, noise in zip(layers, noises, strict=True)
    ]  # fmt: skip
    rows = [Markup(r.replace("<td><svg", '<td class="bar"><svg')) for r in rows]
    rest = (
        folded(f"{len(rows) - SHOWN} more", table(_COLUMNS, rows[SHOWN:], "Less costly layers"))
        if len(rows) > SHOWN
        else ""
    )
    return element(
        "div",
        element("h4", "One layer quantized at a time"),
        quiet("Noise at the outputs, relative to the signal."),
        join([table(_COLUMNS, rows[:SHOWN], "The most costly layers"), rest]),
    )


def _name(layer: Fields) -> str:
    return str(layer.get("source") or f"{layer['layer']} ({layer['op']})")
