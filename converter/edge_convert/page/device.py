"""What the device makes of the artifact: its memory, a predicted latency, and who has tried it.

Where each operator runs is `artifacts.py`'s matter.
"""

from __future__ import annotations

from edge_convert.page import figures
from edge_convert.page.markup import (
    Column,
    Fields,
    Markup,
    badge,
    bullets,
    part,
    prose,
    table,
)

_PREDICTED = (
    "Multiply-accumulates over the profile's sustained rate: a prediction, nothing was measured there."
)
_ESTIMATED = "By the NPU compiler's own estimate, which was never checked on an NPU."
_EMULATED = (
    "Golden inputs on emulated CPUs against this host's answers; instructions of one inference, which are no "
    "time but the same on every host."
)


def parts_of(profile: Fields) -> Markup:
    """Whatever of the three there is."""
    return Markup(_needs(profile) + _arm(profile) + _npu(profile))


def _needs(profile: Fields) -> Markup:
    summary = profile.get("fit_summary")
    if not summary:
        return Markup()
    rows = [
        (precision, figures.milliseconds(value))
        for precision, value in sorted(summary["predicted_ms"].items())
    ]
    predicted = table(("precision", Column("predicted", True)), rows, "Predicted latency") if rows else ""
    note = (
        f"{_PREDICTED} The profile on its figures: {summary.get('rates_from') or 'nothing'}." if rows else ""
    )
    return part("What it needs there", bullets(summary["reasons"]), predicted, note=note)


def _arm(profile: Fields) -> Markup:
    rows = [
        (
            one["artifact"],
            prose(one["cpu"]),
            badge("pass" if one["passed"] else "fail"),
            "" if one["worst_lsb"] is None else str(one["worst_lsb"]),
            figures.share(one["same_class"]),
            "" if one["instructions"] is None else f"{one['instructions']:,}",
            prose(one["reason"]),
        )
        for one in profile.get("arm_checks") or []
    ]
    columns = (
        "artifact",
        "CPU",
        "answers as here",
        Column("codes apart", True),
        Column("same class", True),
        Column("instructions", True),
        "",
    )
    made = table(columns, rows, "On emulated ARM CPUs") if rows else ""
    return part("On ARM CPUs", made, note=_EMULATED if rows else "")


def _npu(profile: Fields) -> Markup:
    rows = [
        (
            one["precision"],
            prose(one["platform"]),
            badge("pass" if one["compiled"] else "fail"),
            "" if one["estimate_us"] is None else figures.milliseconds(one["estimate_us"] / 1000),
            prose(one["refusal"] or one["compiler"]),
        )
        for one in profile.get("npu_compilations") or []
    ]
    columns = ("form", "NPU", "compiled", Column("estimate", True), "said by")
    made = table(columns, rows, "Compiled for the NPU") if rows else ""
    return part("On the NPU", made, note=_ESTIMATED if rows else "")
