"""The rules: what is measured, from where on it is bad, from where on it is good again, and for how long.

A value at or above `raise_at` is bad, at or below `clear_at` good, and in between it is what it was: that,
and the two durations, keep an alert from flapping. A rule that rests on evidence keeps its state while
there is none: a device that fell silent has not become well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edge_fleet.errors import RequestInvalid

LEVELS = ("warning", "critical")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        said: One line for a person.
        unit: Of the value.
        pending_s: How long it must be bad before the alert fires.
        calm_s: How long it must be good before it is resolved.
        on_evidence: Without a finding its state stays; otherwise no finding means that all is well.
        enabled: Whether it is looked at.
    """

    name: str
    level: str
    said: str
    unit: str
    raise_at: float
    clear_at: float
    pending_s: float
    calm_s: float
    on_evidence: bool = False
    enabled: bool = True


RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("fork", "critical", "two histories under one number", "envelopes in an hour", 1, 0, 0, 3600),
        Rule("bad-signature", "critical", "not signed by the device it names", "in an hour", 1, 0, 0, 3600),
        Rule("replay", "critical", "snapshots of a device that are not newer", "in an hour", 3, 0, 0, 3600),
        Rule("foreign-director", "critical", "a device that obeys a stranger", "devices", 1, 0, 60, 600),
        Rule("gap", "warning", "records that a device says it lost", "records in an hour", 1, 0, 0, 3600),
        Rule("hole", "warning", "numbers that are missing and nobody owns up to", "numbers", 1, 0, 600, 60),
        Rule("silence", "warning", "a device that says nothing", "minutes", 15, 5, 0, 60),
        Rule("drift", "warning", "devices that find that they drift", "share", 0.2, 0.1, 600, 1800, True),
        Rule("error-budget", "critical", "more errors than promised", "budgets", 1, 0.5, 60, 600, True),
        Rule("latency", "warning", "p95 beside the day before", "times", 1.5, 1.2, 300, 900, True),
        Rule("low-disk", "warning", "a disk that is full or fails", "events in an hour", 1, 0, 0, 3600),
        Rule("clock", "warning", "a device's clock that jumps or runs ahead", "seconds", 60, 5, 0, 3600),
    )
}  # fmt: skip
_NUMBERS = ("raise_at", "clear_at", "pending_s", "calm_s")


def changed(rule: Rule, changes: Mapping[str, Any]) -> Rule:
    """A rule with some of its settings replaced.

    Raises:
        RequestInvalid: Not a setting, not a number, or a rule that could not clear.
    """
    known = {*_NUMBERS, "level", "enabled"}
    for name, value in changes.items():
        if name not in known:
            raise RequestInvalid(
                f"rule {rule.name} has no setting {name!r:.60}; it has {', '.join(sorted(known))}"
            )
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise RequestInvalid(f"{name} of rule {rule.name} is {value!r:.60}; give a number")
        if name in _NUMBERS and not (math.isfinite(value) and value >= 0):
            raise RequestInvalid(f"{name} of rule {rule.name} is {value}; give a number from 0 on")
        if name == "level" and value not in LEVELS:
            raise RequestInvalid(f"level of rule {rule.name} is {value!r:.60}; it is warning or critical")
        if name == "enabled" and not isinstance(value, bool):
            raise RequestInvalid(f"enabled of rule {rule.name} is {value!r:.60}; it is true or false")
    made = replace(rule, **changes)
    if made.clear_at >= made.raise_at:
        raise RequestInvalid(
            f"rule {rule.name} would clear at {made.clear_at:g} and raise at {made.raise_at:g}; "
            "it must clear below"
        )
    return made


def differences(rule: Rule) -> dict[str, Any]:
    """What of a rule is not as it comes."""
    usual = asdict(RULES[rule.name])
    return {f.name: getattr(rule, f.name) for f in fields(rule) if getattr(rule, f.name) != usual[f.name]}
