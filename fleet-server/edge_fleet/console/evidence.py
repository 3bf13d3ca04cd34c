"""The numbers behind a gate's verdict, laid out for a person: measured, allowed, possible, and the bet. Pure.

A row of a verdict's evidence speaks of one bundle; the names in it are those of docs/rollouts.md. What a
row does not have is not shown: gates differ in what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

AGAINST = {
    "limit": "the plan's limit",
    "before": "the release before, on the same devices",
    "control": "devices that run the release before at the same time",
}
WIDTH, HEIGHT = 220, 34


@dataclass(frozen=True)
class Line:
    """One thing that was measured or is asked.

    Args:
        hint: What it means.
    """

    name: str
    value: str
    hint: str


@dataclass(frozen=True)
class Shown:
    """One bundle's part of a verdict.

    Args:
        profile: "" for a gate that judges all devices together.
        scale: Found, possible and allowed on one axis; empty when they are not three numbers of one kind.
        bet: How far the bet against the release has come.
    """

    profile: str
    outcome: str
    lines: tuple[Line, ...]
    scale: Markup
    bet: Markup


def laid_out(gate: str, evidence: list[Mapping[str, Any]]) -> tuple[Shown, ...]:
    """The evidence of one verdict."""
    return tuple(_shown(gate, row) for row in evidence)


def _shown(gate: str, row: Mapping[str, Any]) -> Shown:
    profile = str(row.get("profile", ""))
    where = f"{gate} {profile}".strip()
    return Shown(
        profile, str(row.get("outcome", "")), tuple(_lines(row)), _scale(where, row), _bet(where, row)
    )


def _lines(row: Mapping[str, Any]) -> Iterator[Line]:
    for kind in _KINDS:
        if (
            _has(row, *kind.needs)
            and not (kind.unless and _has(row, kind.unless))
            and (told := kind.tell(row))
        ):
            yield Line(kind.name, told, kind.hint)


@dataclass(frozen=True)
class _Kind:
    """A kind of line.

    Args:
        needs: Numbers that a row must have for it.
        tell: The value in words, "" where there is nothing to say.
        unless: With this in the row another line says it.
    """

    name: str
    needs: tuple[str, ...]
    tell: Callable[[Mapping[str, Any]], str]
    hint: str
    unless: str = ""


def _distance(row: Mapping[str, Any]) -> str:
    return f"{row['distance']:.3f}" + (f" ({row['name']})" if row.get("name") else "")


def _bad(row: Mapping[str, Any]) -> str:
    rate = f" ({_percent(row['bad'] / row['total'])})" if row["total"] else ""
    return f"{row['bad']:,.6g} of {row['total']:,.6g}{rate}"


def _against(row: Mapping[str, Any]) -> str:
    name = str(row.get("against") or "")
    return AGAINST.get(name, name)


def _exposure(row: Mapping[str, Any]) -> str:
    worth = ""
    if _has(row, "effective"):
        worth = f", worth {row['effective']:,.0f} independent inferences"
    return f"{row['devices']:,} devices{worth}"


def _bets(row: Mapping[str, Any]) -> str:
    return f"{_wealth(row['e_fleet'])} over all devices, {_wealth(row['e_devices'])} on single ones"


# in the order in which they are shown
_KINDS = (
    _Kind(
        "Found",
        ("found_value",),
        lambda row: f"{row['found_value']:.4g}",
        "the quantile of all devices' values",
    ),
    _Kind("Allowed", ("allowed_value",), lambda row: f"{row['allowed_value']:.4g}", "of that quantile"),
    _Kind("Distance", ("distance",), _distance, "total variation from the baseline"),
    _Kind(
        "Would count",
        ("distance", "allowed"),
        lambda row: f"{row['allowed']:.3f}",
        "the smallest distance that is drift",
    ),
    _Kind("Bad", ("bad", "total"), _bad, "what the gate counts"),
    _Kind(
        "Counted",
        ("total",),
        lambda row: f"{row['total']:,.6g}",
        "inferences behind the smallest sample",
        unless="bad",
    ),
    _Kind(
        "Allowed share", ("allowed",), lambda row: _percent(row["allowed"]), "of bad ones", unless="distance"
    ),
    _Kind(
        "At most",
        ("upper",),
        lambda row: _percent(row["upper"]),
        "95 % certain at any look: what it may really be; PASS needs it below what is allowed",
    ),
    _Kind("Held against", (), _against, ""),
    _Kind("Exposure", ("devices",), _exposure, "inferences in clumps are worth fewer (Rao and Scott 1992)"),
    _Kind(
        "Drift alone", ("devices_alone",), lambda row: f"{row['devices_alone']:,} devices", "one in ten may"
    ),
    _Kind(
        "Disagree", ("devices_wrong",), lambda row: f"{row['devices_wrong']:,} devices", "on golden inputs"
    ),
    _Kind(
        "Look",
        ("looks",),
        lambda row: str(row["looks"]),
        "a device's share is taken at its 1st, 2nd, 4th, 8th, ... window; the test holds at any of them",
    ),
    _Kind(
        "Bet e",
        ("e", "needed"),
        lambda row: f"{_wealth(row['e'])}, {row['needed']:,} halts",
        "wealth of a bet against the release; of a good one it ever reaches that by a chance of alpha",
    ),
    _Kind("of it", ("e_fleet", "e_devices"), _bets, "the two tests that share alpha"),
    _Kind(
        "alpha",
        ("alpha",),
        lambda row: f"{row['alpha']:.2g}",
        "chance of a false halt that this gate may spend",
    ),
    _Kind(
        "Left out",
        ("noisy_windows",),
        lambda row: f"{row['noisy_windows']:,} windows" if row["noisy_windows"] else "",
        "they carry noise for privacy",
    ),
)


def _scale(where: str, row: Mapping[str, Any]) -> Markup:
    """What was found as a bar, what is possible as a whisker, what is allowed as a mark."""
    written: Callable[[float], str]
    found: float
    upper: float
    allowed: float
    if _has(row, "distance"):
        found, upper, allowed, written = row["distance"], row["distance"], row["allowed"], _plain
    elif _has(row, "bad", "total", "allowed") and row["total"]:
        found, allowed, written = row["bad"] / row["total"], row["allowed"], _percent
        upper = row["upper"] if _has(row, "upper") else found
    else:
        return Markup("")
    # a bound that is far above the mark says "unknown", however far: the axis ends at four times the mark
    top = max(found, min(max(upper, found), 4 * allowed), allowed, 1e-9) * 1.12

    def x(value: float) -> float:
        return min(WIDTH - 2.0, max(0.0, value / top * (WIDTH - 2)))

    title = f"{where}: found {written(found)}, at most {written(upper)}, allowed {written(allowed)}"
    colour = "over" if found > allowed else "under"
    return Markup(
        '<svg class="scale" role="img" viewBox="0 0 {w} {h}"><title>{title}</title>'
        '<rect class="ground" x="0" y="10" width="{w}" height="10"/>'
        '<rect class="{colour}" x="0" y="10" width="{found:.1f}" height="10"/>'
        '<path class="possible" d="M{found:.1f} 15H{upper:.1f}m0 -4v8"/>'
        '<path class="allowed" d="M{allowed:.1f} 5V25"/>'
        '<text x="{at:.1f}" y="33" text-anchor="{anchor}">allowed {told}</text></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT + 2,
        title=title,
        colour=colour,
        found=max(1.0, x(found)),
        upper=max(1.0, x(upper)),
        allowed=x(allowed),
        at=x(allowed),
        anchor="end" if x(allowed) > WIDTH / 2 else "start",
        told=written(allowed),
    )


def _bet(where: str, row: Mapping[str, Any]) -> Markup:
    """Wealth on a logarithmic axis: the right end is where the rollout is halted."""
    if not _has(row, "e", "needed") or row["needed"] <= 1:
        return Markup("")
    part = min(1.0, max(0.0, math.log(max(row["e"], 1.0)) / math.log(row["needed"])))
    return Markup(
        '<svg class="scale bet" role="img" viewBox="0 0 {w} 14"><title>{title}</title>'
        '<rect class="ground" x="0" y="2" width="{w}" height="10"/>'
        '<rect class="over" x="0" y="2" width="{part:.1f}" height="10"/></svg>'
    ).format(
        w=WIDTH,
        part=part * WIDTH,
        title=f"{where}: e is {_wealth(row['e'])}, the rollout is halted at {row['needed']:,}",
    )


def _has(row: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(row.get(name), int | float) for name in names)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _wealth(e: float) -> str:
    if e >= 1e6:
        return f"1e{math.log10(e):.0f}"
    return f"{e:,.0f}" if e >= 10 else f"{e:.1f}"
