"""Which answers changed: the samples themselves, and how all errors are spread."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import figures, plots
from edge_convert.page.markup import Fields, Markup, element, empty, folded, join, part, quiet, sentence


def part_of(profile: Fields) -> Markup:
    """The changed samples of a classifier, or those whose answers moved furthest."""
    explained = profile.get("explanation") or {}
    errors = _errors(profile.get("histogram"))
    if explained.get("changes"):
        return part("What changed its answer", *_changes(explained["changes"]), errors)
    if explained.get("furthest"):
        items = [_far(f) for f in explained["furthest"]]
        return part(
            "The answers that moved most",
            element("ul", *items, class_="answers"),
            errors,
            note="Held-out samples with the lowest signal to noise.",
        )
    return part("How far the answers moved", errors) if errors else Markup()


def _changes(changes: Fields) -> list[Markup]:
    count, changed = changes["samples"], changes["changed"]
    if not changed:
        return [sentence(f"None of {count} held-out samples changed its class.")]
    words = f"{changed} of {count} held-out samples changed their class."
    if changes.get("lost") is not None:
        other = changed - changes["lost"] - changes["gained"]
        words += f" {changes['lost']} were right before, {changes['gained']} are right now"
        words += f", {other} were wrong both times." if other else "."
    if changes.get("median_margin_changed") is not None:
        theirs, everyones = (
            figures.general(changes[f"median_margin_{which}"], 2) for which in ("changed", "all")
        )
        words += f" The source's first class led by {theirs} (median); over all samples it is {everyones}."
    items = [_changed(c) for c in changes["shown"]]
    shown = quiet(f"The {len(items)} that the source was surest of:") if len(items) < changed else Markup()
    return [sentence(words), shown, element("ul", *items, class_="answers")]


def _changed(change: Fields) -> Markup:
    label = change.get("label_name")
    facts = [
        element("dt", f"sample {change['sample']}" + (f", really {label}" if label else "")),
        *_top("source", change["source"]),
        *_top("artifact", change["artifact"]),
    ]
    return element("li", picture(change), element("dl", *facts))


def _top(who: str, scores: Sequence[Fields]) -> list[Markup]:
    first, *others = scores
    more = ", ".join(f"{s['name']} {_score(s)}" for s in others[:1])
    said = element("span", first["name"], class_=f"who {who}")
    return [
        element(
            "dd",
            f"{who} ",
            said,
            f" {_score(first)}",
            element("span", f", then {more}", class_="quiet") if more else "",
        )
    ]


def _score(scored: Fields) -> str:
    value = float(scored["score"])
    return f"{value:.2f}" if -100 < value < 100 else figures.general(value)


def _far(far: Fields) -> Markup:
    facts = element("dt", f"sample {far['sample']}"), element("dd", figures.decibels(far["sqnr_db"]))
    return element("li", picture(far), element("dl", *facts))


def picture(sample: Fields) -> Markup:
    """The sample's picture; nothing when it has none, and never an address that would be asked for."""
    address = sample.get("picture") or ""
    if not address.startswith("data:image/png;base64,"):
        return Markup()
    return empty("img", src=address, alt=f"sample {sample['sample']}")


def _errors(histogram: Fields | None) -> Markup:
    if not histogram:
        return Markup()
    title = f"Errors of output {histogram['output']}"
    drawn = plots.histogram(title, "artifact minus source", histogram["edges"], histogram["counts"])
    return folded("How all errors are spread", join([element("h4", title), drawn]))
