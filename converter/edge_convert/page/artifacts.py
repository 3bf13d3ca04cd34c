"""What the bundle holds, and where each of its operators would run."""

from __future__ import annotations

from edge_convert.page import figures
from edge_convert.page.markup import (
    Column,
    Fields,
    Markup,
    badge,
    element,
    folded,
    part,
    prose,
    sentence,
    table,
)

ROWS = 12


def part_of(profile: Fields) -> Markup:
    """The artifacts; nothing when there is no bundle."""
    rows = [
        (
            a["id"],
            a["format"],
            a["precision"],
            ", ".join(a["runtimes"]),
            figures.size(a["bytes"]),
            prose(a["compiled_for"] or a["not_compiled"] or "needs none"),
        )
        for a in profile.get("artifacts") or []
    ]
    if not rows:
        return Markup()
    columns = ("id", "format", "precision", "runtimes", Column("size", True), "compiled")
    digest = profile.get("bundle_digest")
    name = (
        sentence(Markup(element("code", profile["bundle"]) + " · " + element("code", digest)))
        if digest
        else ""
    )
    return part("The bundle", name, table(columns, rows, "Artifacts in the bundle"))


def fit(profile: Fields) -> Markup:
    """Every operator: where it runs and by which rule; those that do not run where they should come first."""
    rows = profile.get("fit") or []
    if not rows:
        return Markup()
    cells = [
        (
            r["operator"],
            _place(r),
            prose(r.get("rule") or r.get("reason") or ""),
            prose(r.get("source") or ""),
        )
        for r in sorted(rows, key=lambda r: bool(r.get("mapped", True)))
    ]
    columns = ("operator", "runs on", "rule", "source of the rule")
    more = (
        folded(f"{len(cells) - ROWS} more operators", table(columns, cells[ROWS:], "More operators"))
        if len(cells) > ROWS
        else ""
    )
    return part("Where it runs", table(columns, cells[:ROWS], "Operators"), more)


def _place(row: Fields) -> Markup:
    if "where" in row:
        return Markup(prose(row["where"]))
    return badge("pass") if row.get("mapped") else badge("fail")
