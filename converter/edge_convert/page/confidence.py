"""Whether a model knows how sure it may be: reliability before and after, and when not to answer."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page import drawings, figures, plots
from edge_convert.page.axes import Scale, linear
from edge_convert.page.markup import Column, Fields, Markup, element, part, quiet, sentence, table
from edge_convert.page.plots import Point, Polyline

_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_SHARES = Scale(0.0, 1.0, _TICKS)
_MODELS = (("source", "source"), ("artifact", "artifact"), ("calibrated", "artifact, temperature applied"))


def part_of(profile: Fields) -> Markup:
    """Reliability and abstention; nothing for a model without confidences."""
    found = profile.get("confidence")
    if not found:
        return Markup()
    rows = [
        (words, _error(found[name]), _interval(found[name]))
        for name, words in _MODELS
        if found.get(name) and found[name].get("ece") is not None
    ]
    columns = (Column("model"), Column("calibration error", True), Column("interval", True))
    numbers = table(columns, rows, "Calibration error") if rows else ""
    silent = _abstain(found.get("abstain"), bool(found.get("labelled")))
    sides = [
        element("div", _reliability(found), _legend(found)) if _bins(found, "source") else "",
        element(
            "div",
            numbers,
            _temperature(found.get("temperature")),
            *silent,
        ),
    ]
    return part(
        "How sure it may be",
        element("div", *(side for side in sides if side), class_="pair"),
        note="Calibration error: how far confidence is from the share of right answers, in the mean."
        if rows
        else "",
    )


def _bins(found: Fields, name: str) -> Sequence[Fields]:
    return (found.get(name) or {}).get("reliability") or []


def _reliability(found: Fields) -> Markup:
    points = [
        Point(
            one["confidence"],
            one["right"],
            one["samples"] / max(b["samples"] for b in _bins(found, name)) / 2,
            name,
            "",
            f"{name}: confidence {one['confidence']:.2f}, right {one['right']:.2f}, {one['samples']} samples",
        )
        for name in ("source", "artifact")
        for one in _bins(found, name)
    ]
    honest = Polyline(((0.0, 0.0), (1.0, 1.0)), "between")
    return plots.scatter(
        "Reliability", ("confidence", "share that is right"), points, (_SHARES, _SHARES), lines=(honest,)
    )


def _legend(found: Fields) -> Markup:
    known = "right by the labels" if found.get("labelled") else "the same as the source's answer"
    legend = drawings.legend(("source", "source"), ("artifact", "artifact"))
    return Markup(legend + quiet(f"Right means {known}. On the line confidence is what it says."))


def _error(model: Fields) -> str:
    return f"{model['ece']:.3f}"


def _interval(model: Fields) -> str:
    ends = model.get("interval")
    return "" if not ends else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _temperature(temperature: Fields | None) -> Markup:
    if not temperature:
        return Markup()
    return sentence(
        f"A temperature of {temperature['value']:.2f}, fitted to {temperature['fitted_to']} of "
        f"{temperature['samples']} samples, is the best that one number can do."
    )


def _abstain(abstain: Fields | None, labelled: bool) -> list[Markup]:
    """The threshold below which an answer should be withheld, and what it costs."""
    if not abstain:
        return []
    threshold = abstain.get("threshold")
    target = figures.share(abstain["target_risk"])
    wrong = "wrong" if labelled else "not the source's"
    if not threshold:
        words = f"No threshold holds the share of wrong answers to {target} on so few samples."
    else:
        words = (
            f"Answers with a confidence below {threshold['below']:.2f} are better withheld: "
            f"{figures.share(threshold['coverage'])} remain, and at most "
            f"{figures.share(threshold['risk_bound'])} of them are {wrong} ({target} asked for)."
        )
        if threshold.get("held_out_coverage") is not None and threshold.get("held_out_risk") is not None:
            words += (
                f" On held-out samples {figures.share(threshold['held_out_coverage'])} remained and "
                f"{figures.share(threshold['held_out_risk'])} were {wrong}."
            )
    curve = abstain.get("curve") or []
    if len(curve) < 2:
        return [sentence(words)]
    places = tuple((float(p["coverage"]), float(p["risk"])) for p in curve)
    up = linear([risk for _, risk in places], from_zero=True)
    drawn = plots.scatter(
        "Risk and coverage",
        ("share that is answered", f"share that is {wrong}"),
        [],
        (_SHARES, up),
        lines=(Polyline(places, "curve artifact"),),
    )
    return [element("h4", "When to say nothing"), sentence(words), drawn]
