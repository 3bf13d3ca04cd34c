"""report.html: one page that loads nothing, made from the JSON form of the report.

Names come from model files and are escaped wherever they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from edge_convert.svg import Bar, bars, histogram

_STYLE = """
:root { color-scheme: light dark; --good: #2e7d4f; --bad: #b3392f; --plain: #4a74a8; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line);
padding-top: 1rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line);
vertical-align: top; } td.number, th.number { text-align: right; }
.wide { overflow-x: auto; } td:first-child { white-space: nowrap; }
.verdict { font-weight: 600; } .pass, .chosen { color: var(--good); }
.fail, .failed { color: var(--bad); } code { font-size: .9em; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
rect.good { fill: var(--good); } rect.bad { fill: var(--bad); } rect.plain { fill: var(--plain); }
p.quiet { opacity: .75; }
"""
_MARKS = {"pass": "passed", "fail": "failed", "not judged": "not judged"}


_CANDIDATE_HEAD = (
    "recipe",
    "precision",
    "",
    "kB",
    "choosing dB",
    "held-out dB",
    "agreement",
    "accuracy",
    "ms",
    "of source",
)
Figure = Callable[[dict[str, Any]], float | None]
_CHARTS: tuple[tuple[str, str, Figure], ...] = (
    ("Signal to noise on the samples that choose", "{:.1f} dB", lambda t: t["selection"]["sqnr_db"]),
    ("Accuracy on held-out samples", "{:.2%}", lambda t: (t["score"] or {}).get("artifact")),
    ("Size", "{:.1f} kB", lambda t: t["bytes"] / 1000),
    ("Latency, as a share of the source's", "{:.2f}", lambda t: t["latency_ratio"]),
)


def render(document: dict[str, Any]) -> str:
    """The page.

    Args:
        document: As `report.as_json` makes it.
    """
    title = f"{document['name']} {document['version']}"
    verdict = "refused" if document["refusal"] else "no bundle for some profile"
    if document["passed"]:
        verdict = "converted"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {"pass" if document["passed"] else "fail"}">{escape(verdict)}</p>',
    ]
    if document["refusal"]:
        body.append(f"<p>{escape(document['refusal'])}</p>")
    body += [_overview(document), *(_profile(p) for p in document["profiles"]), _inputs(document)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: conversion report</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _overview(document: dict[str, Any]) -> str:
    if not document["profiles"]:
        return ""
    rows = [
        (
            profile["profile"],
            _verdict("pass" if profile["passed"] else "fail"),
            profile["summary"],
            profile["bundle"] or "none",
        )
        for profile in document["profiles"]
    ]
    notes = _list(document["notes"])
    return _table(("profile", "verdict", "what was done", "bundle"), rows) + notes


def _profile(profile: dict[str, Any]) -> str:
    parts = [f"<h2>{escape(profile['profile'])}</h2><p class=quiet>{escape(profile['title'])}</p>"]
    parts.append(f"<p>{escape(profile['summary'])}</p>")
    parts.append(_list(profile["notes"]))
    trials = profile["candidates"]
    if trials:
        parts += ["<h3>Candidates</h3>", _candidates(trials), *_candidate_charts(trials)]
    judged = next((t for t in trials if t["state"] == "chosen"), None) or next(
        (t for t in reversed(trials) if t["state"] == "failed"), None
    )
    findings = [*profile["findings"], *(judged["findings"] if judged else [])]
    if findings:
        of = f" of {judged['recipe']}" if judged else ""
        parts += [f"<h3>Gates{escape(of)}</h3>", _findings(findings)]
    if profile["layers"]:
        parts += ["<h3>What each layer costs</h3>", _layers(profile["layers"])]
    if profile["histogram"]:
        shape = profile["histogram"]
        parts.append(f"<h3>Errors of output {escape(shape['output'])}</h3>")
        parts.append(histogram("artifact minus source", shape["edges"], shape["counts"]))
    if profile["fit"]:
        parts += ["<h3>Operators on the accelerator</h3>", _fit(profile["fit"])]
    if profile["artifacts"]:
        parts += ["<h3>Artifacts</h3>", _artifacts(profile["artifacts"])]
    return "\n".join(parts)


def _candidates(trials: Sequence[dict[str, Any]]) -> str:
    rows = []
    for trial in trials:
        score = trial["score"] or {}
        rows.append(
            (
                _label(trial),
                trial["precision"],
                _verdict(trial["state"]),
                _number(trial["bytes"] / 1000, "{:.1f}"),
                _number(trial["selection"]["sqnr_db"], "{:.1f}", "exact"),
                _number(score.get("sqnr_db"), "{:.1f}", "exact" if score else ""),
                _number(score.get("agreement"), "{:.1%}"),
                _number(score.get("artifact"), "{:.2%}"),
                _number(trial["latency_ms"], "{:.4f}"),
                _number(trial["latency_ratio"], "{:.2f}"),
            )
        )
    return _table(_CANDIDATE_HEAD, rows, first_number=3)


def _candidate_charts(trials: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Quality, size and speed of all candidates that have the figure."""
    for title, unit, figure in _CHARTS:
        rows = [
            Bar(_label(trial), max(value, 0.0), unit.format(value), _kind(trial["state"]))
            for trial in trials
            if (value := figure(trial)) is not None
        ]
        if rows:
            yield f"<h3>{title}</h3>{bars(title, rows)}"


def _label(trial: dict[str, Any]) -> str:
    return str(trial["recipe"]) + (" pruned" if trial["pruned"] else "")


def _kind(state: str) -> str:
    return {"chosen": "good", "failed": "bad"}.get(state, "plain")


def _findings(findings: Sequence[dict[str, Any]]) -> str:
    rows = [(f["gate"], _verdict(f["verdict"]), f["reason"]) for f in findings]
    return _table(("gate", "verdict", "found and expected"), rows)


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    """Noise of each layer as amplitude relative to the signal: a length that can be compared."""
    rows = []
    for layer in layers:
        noise = 100 * 10 ** (-layer["sqnr_db"] / 20)
        rows.append(
            Bar(
                layer["source"] or f"{layer['layer']} ({layer['op']})",
                noise,
                f"{layer['sqnr_db']:.1f} dB ({noise:.2g} %)",
            )
        )
    note = (
        "<p class=quiet>Noise at the outputs when this layer alone is quantized, relative to the signal.</p>"
    )
    return note + bars("noise by layer", rows)


def _fit(rows: Sequence[dict[str, Any]]) -> str:
    return _table(
        ("operator", "runs on it", "why"),
        [(r["operator"], "yes" if r["mapped"] else "no", r["reason"]) for r in rows],
    )


def _artifacts(artifacts: Sequence[dict[str, Any]]) -> str:
    return _table(
        ("id", "format", "precision", "runtimes", "bytes", "compiled"),
        [
            (
                a["id"],
                a["format"],
                a["precision"],
                ", ".join(a["runtimes"]),
                str(a["bytes"]),
                a["compiled_for"] or a["not_compiled"] or "no accelerator",
            )
            for a in artifacts
        ],
    )


def _inputs(document: dict[str, Any]) -> str:
    source, data = document["source"], document["data"]
    rows = [
        ("source", f"{source['name']} ({source['bytes']} bytes, {source['operators']} operators)"),
        ("digest", source["digest"]),
    ]
    for kind in ("calibration", "evaluation"):
        if data.get(kind):
            rows.append(
                (kind, f"{data[kind]['file']}: {data[kind]['samples']} samples, {data[kind]['digest']}")
            )
    if data:
        use = f"{data['ranges']} for ranges, {data['selection']} to choose, {data['held_out']} held out"
        rows.append(("samples", use))
    rows += [(name, version) for name, version in document["tools"].items()]
    rows += [(name, str(value)) for name, value in document["host"].items()]
    findings = _findings(document["findings"]) if document["findings"] else ""
    return "<h2>Inputs and tools</h2>" + findings + _table(("", ""), rows)


class _Markup(str):
    """Text that is HTML already."""


def _verdict(word: str) -> _Markup:
    return _Markup(
        f'<span class="verdict {escape(word.replace(" ", "-"))}">{escape(_MARKS.get(word, word))}</span>'
    )


def _number(value: float | None, form: str, missing: str = "") -> str:
    return missing if value is None else form.format(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], first_number: int = 99) -> str:
    def cell(tag: str, index: int, text: str) -> str:
        kind = " class=number" if index >= first_number else ""
        return f"<{tag}{kind}>{text if isinstance(text, _Markup) else escape(text)}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", i, text) for i, text in enumerate(head)) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows]
    return '<div class="wide"><table>' + "\n".join(lines) + "</table></div>"


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""
