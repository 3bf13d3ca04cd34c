"""Where everything comes from: the source, the samples, the tools, this host."""

from __future__ import annotations

import json

from edge_convert.page.judged import findings_table
from edge_convert.page.markup import Fields, Markup, element, part, prose, table


def section(document: Fields) -> Markup:
    """The last section of the page."""
    parts = [
        part("About the source", findings_table(document["findings"])) if document.get("findings") else "",
        part("Inputs", table(("", ""), _inputs(document), "Inputs")),
        *_processing(document),
        part("Tools", table(("", ""), _tools(document), "Tools and host")),
    ]
    return element(
        "section",
        element("h2", "Inputs and tools"),
        element("div", *parts, class_="parts"),
        class_="profile",
        id="provenance",
    )


def _inputs(document: Fields) -> list[tuple[object, object]]:
    source, data = document["source"], document.get("data") or {}
    rows: list[tuple[object, object]] = [
        ("source", f"{source['name']} ({source['bytes']:,} bytes, {source['operators']} operators)"),
        ("digest", element("code", source["digest"])),
    ]
    for kind in ("inputs", "outputs"):
        for port in source.get(kind) or []:
            shape = " \u00d7 ".join(str(d) for d in port["shape"])
            layout = f", {port['layout']}" if port.get("layout") else ""
            rows.append((kind.removesuffix("s"), f"{port['name']}: {shape}{layout}"))
    for kind in ("calibration", "evaluation"):
        if data.get(kind):
            one = data[kind]
            rows.append(
                (
                    kind,
                    element(
                        "span", f"{one['file']}: {one['samples']} samples, ", element("code", one["digest"])
                    ),
                )
            )
    if "held_out" in data:
        rows.append(
            (
                "samples",
                f"{data['ranges']} for ranges, {data['selection']} to choose, {data['held_out']} held out",
            )
        )
    return rows


def _processing(document: Fields) -> list[Markup]:
    """How bytes become inputs and outputs answers; nothing where the build did not say it."""
    said = document.get("processing")
    if not said:
        return []
    rows: list[tuple[object, object]] = []
    for name, rules in said["inputs"].items():
        for kind in ("prepare", "checks"):
            rows.append((f"{name}: {kind}", _rule(rules.get(kind))))
    rows.append(("interpret", _rule(said.get("interpret"))))
    return [
        part(
            "From bytes to answers", table(("", ""), [row for row in rows if row[1]], "From bytes to answers")
        )
    ]


def _rule(rule: Fields | None) -> str:
    """A rule's fields in one line; "" where there is none."""
    return ", ".join(f"{key} {_value(value)}" for key, value in (rule or {}).items() if value is not None)


def _value(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)


def _tools(document: Fields) -> list[tuple[object, object]]:
    tools = list((document.get("tools") or {}).items())
    return [(name, prose(value)) for name, value in [*tools, *(document.get("host") or {}).items()]]
