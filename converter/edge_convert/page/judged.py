"""The gates: what each found, what it expected, and what it said."""

from __future__ import annotations

from collections.abc import Sequence

from edge_convert.page.markup import Fields, Markup, badge, part, prose, table


def part_of(profile: Fields) -> Markup:
    """The gates of the chosen candidate, or of the last that failed."""
    trials = profile.get("candidates") or []
    one = next((t for t in trials if t["state"] == "chosen"), None) or next(
        (t for t in reversed(trials) if t["state"] == "failed"), None
    )
    findings = [*(profile.get("findings") or []), *(one["findings"] if one else [])]
    if not findings:
        return Markup()
    of = f" of {one.get('name') or one['recipe']}" if one else ""
    return part(f"Gates{of}", findings_table(findings))


def findings_table(findings: Sequence[Fields]) -> Markup:
    """What each gate said."""
    rows = [(f["gate"], badge(f["verdict"]), prose(f["reason"])) for f in findings]
    return table(("gate", "verdict", "found and expected"), rows, "What each gate found")
