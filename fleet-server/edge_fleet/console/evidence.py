"""The numbers behind a gate's verdict, laid out for a person: measured, allowed, possible, and the bet. Pure.

A row of a verdict's evidence speaks of one bundle; the names in it are those of docs/rollouts.md. What a
row does not have is not shown: gates differ in what they measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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


def _lines(row: Mapping[str, Any]) -> list[Line]:
    lines = []
    if _has(row, "found_value"):
        lines.append(Line("Found", f"{row['found_value']:.4g}", "the quantile of all devices' values"))
    if _has(row, "allowed_value"):
        lines.append(Line("Allowed", f"{row['allowed_value']:.4g}", "of that quantile"))
    if _has(row, "distance"):
        name = f" ({row['name']})" if row.get("name") else ""
        lines.append(Line("Distance", f"{row['distance']:.3f}{name}", "total variation from the baseline"))
        lines.append(Line("Would count", f"{row['allowed']:.3f}", "the smallest distance that is drift"))
    if _has(row, "bad", "total"):
        rate = f" ({_percent(row['bad'] / row['total'])})" if row["total"] else ""
        lines.append(Line("Bad", f"{row['bad']:,.6g} of {row['total']:,.6g}{rate}", "what the gate counts"))
    elif _has(row, "total"):
        lines.append(Line("Counted", f"{row['total']:,.6g}", "inferences behind the smallest sample"))
    if _has(row, "allowed") and not _has(row, "distance"):
        lines.append(Line("Allowed share", _percent(row["allowed"]), "of bad ones"))
    if _has(row, "upper"):
        hint = "95 % certain at any look: what it may really be; PASS needs it below what is allowed"
        lines.append(Line("At most", _percent(row["upper"]), hint))
    if row.get("against"):
        lines.append(Line("Held against", AGAINST.get(row["against"], str(row["against"])), ""))
    if _has(row, "devices"):
        exposed = f"{row['devices']:,} devices"
        if _has(row, "effective"):
            exposed += f", worth {row['effective']:,.0f} independent inferences"
        lines.append(Line("Exposure", exposed, "inferences in clumps are worth fewer (Rao and Scott 1992)"))
    if _has(row, "devices_alone"):
        lines.append(Line("Drift alone", f"{row['devices_alone']:,} devices", "one in ten may"))
    if _has(row, "devices_wrong"):
        lines.append(Line("Disagree", f"{row['devices_wrong']:,} devices", "on golden inputs"))
    if _has(row, "looks"):
        hint = (
            "a device's share is taken at its 1st, 2nd, 4th, 8th, ... window; the test holds at any of them"
        )
        lines.append(Line("Look", f"{row['looks']}", hint))
    if _has(row, "e", "needed"):
        hint = "wealth of a bet against the release; of a good one it ever reaches that by a chance of alpha"
        lines.append(Line("Bet e", f"{_wealth(row['e'])}, {row['needed']:,} halts", hint))
    if _has(row, "e_fleet", "e_devices"):
        told = f"{_wealth(row['e_fleet'])} over all devices, {_wealth(row['e_devices'])} on single ones"
        lines.append(Line("of it", told, "the two tests that share alpha"))
    if _has(row, "alpha"):
        lines.append(Line("alpha", f"{row['alpha']:.2g}", "chance of a false halt that this gate may spend"))
    if row.get("noisy_windows"):
        lines.append(Line("Left out", f"{row['noisy_windows']:,} windows", "they carry noise for privacy"))
    return lines


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
