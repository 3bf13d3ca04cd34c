"""What noise, blur and the like do to source and artifact, and what an attacker does."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import drawings, figures
from edge_convert.page.drawings import Span
from edge_convert.page.markup import Column, Fields, Markup, element, folded, part, sentence, table

SHARES = ("accuracy", "agreement", "top1")
_COLUMNS = (
    Column("corruption"), Column("severity", True), Column("source", True), Column("artifact", True),
    Column("drop, points", True), Column("same answer", True), Column("signal to noise", True),
)  # fmt: skip


def part_of(profile: Fields) -> Markup:
    """Corruptions and attack; nothing when neither was tried."""
    found = profile.get("robustness")
    if not found or not (found.get("rows") or found.get("attack")):
        return Markup()
    rows: Sequence[Fields] = found.get("rows") or []
    attack = _attack(found.get("attack"))
    skipped = [f"{one['corruption']}: not tried, {one['reason']}" for one in found.get("skipped") or []]
    return part(
        "Under noise, blur and light",
        *_worst(found.get("worst")),
        _strongest(found, rows),
        folded(f"All {len(rows)} corruptions", _all(found, rows)) if rows else "",
        attack,
        *(sentence(words, "quiet") for words in skipped),
        note=f"The same {found['samples']} held-out samples, spoilt alike for source and artifact.",
    )


def _worst(worst: Fields | None) -> list[Markup]:
    if not worst:
        return []
    ends = worst.get("interval_points")
    between = "" if not ends else f" (between {figures.signed(ends[0], 1)} and {figures.signed(ends[1], 1)})"
    drop = figures.signed(worst["drop_points"], 1)
    return [sentence(f"The artifact loses most under {worst['corruption']}: {drop} points{between}.")]


def _strongest(found: Fields, rows: Sequence[Fields]) -> Markup:
    """Each corruption at its greatest severity."""
    last = {one["corruption"]: one for one in sorted(rows, key=lambda r: float(r["severity"]))}
    clean = found.get("clean")
    shown = [*([clean] if clean else []), *last.values()]
    known = [one for one in shown if one.get("artifact") is not None]
    if not known or found.get("metric") not in SHARES:
        return Markup()
    spans = [
        Span(
            f"{one['corruption']}" + (f", severity {one['severity']}" if one["severity"] else ""),
            None if one.get("source") is None else 100 * one["source"],
            100 * one["artifact"],
            f"{one['corruption']}: {found['metric']} {figures.share(one.get('source'))} to "
            f"{figures.share(one['artifact'])}",
        )
        for one in known
    ]
    drawn = drawings.spans("Robustness", f"{found['metric']}, %", spans)
    return element("div", drawn, drawings.legend(("source", "source"), ("artifact", "artifact")))


def _all(found: Fields, rows: Sequence[Fields]) -> Markup:
    def value(figure: float | None) -> str:
        return figures.share(figure) if found.get("metric") in SHARES else figures.general(figure)

    cells = [
        (
            one["corruption"], str(one["severity"]), value(one.get("source")), value(one.get("artifact")),
            "" if one.get("drop_points") is None else figures.signed(one["drop_points"], 1),
            figures.share(one.get("agreement")),
            "" if one.get("sqnr_db") is None else figures.decibels(one["sqnr_db"]),
        )
        for one in rows
    ]  # fmt: skip
    return table(_COLUMNS, cells, "Corruptions")


def _attack(attack: Fields | None) -> Markup:
    if not attack:
        return Markup()
    title = element("h4", "Under attack")
    if attack.get("skipped"):
        return Markup(title + sentence(f"Not tried: {attack['skipped']}.", "quiet"))
    small = figures.general(attack.get("small"))
    columns = (
        Column("model"), Column("fooled", True), Column(f"withstands changes up to {small}", True),
        Column("median change", True), Column("fools the other, too", True),
    )  # fmt: skip
    cells = [
        (
            who, figures.share(attack[who].get("fooled")), figures.share(attack[who].get("withstands_small")),
            figures.general(attack[who].get("median_distance")),
            figures.share(attack[who].get("also_fools_the_other")),
        )
        for who in ("source", "artifact")
        if attack.get(who)
    ]  # fmt: skip
    words = f"{attack['method']}, on {attack['samples']} samples."
    return Markup(title + sentence(words, "quiet") + table(columns, cells, "Attack"))
