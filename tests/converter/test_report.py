"""The report: every number as JSON, and a page that loads nothing and believes no name."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from edge_contracts.manifest import Score
from edge_contracts.profile import load_profile
from edge_convert import report
from edge_convert.device.fit import Place, Row, judge
from edge_convert.gates import Finding, Limits, Verdict
from edge_convert.measures.compare import Histogram
from edge_convert.measures.score import LayerCost
from edge_convert.results import BuildResult, Outcome, Trial, TrialState

HOSTILE = "</svg><script>alert('x')</script>\"&"
SOURCE = {"name": HOSTILE, "bytes": 1, "operators": 2, "digest": "sha256:00"}
DATA = {
    "calibration": {"file": HOSTILE, "samples": 9, "digest": "sha256:00"},
    "evaluation": None,
    "ranges": 5,
    "selection": 2,
    "held_out": 2,
}


def result(**changes: Any) -> BuildResult:
    score = Score(samples=9, agreement=0.98, sqnr_db=22.5, metric="accuracy", source=0.9, artifact=0.88)
    failed = Trial("wi8", "int8", 1000, score, TrialState.FAILED, False, score, 0.2, 0.1, 2.0)
    findings = (Finding("latency", Verdict.FAIL, HOSTILE, 2.0, 1.1),)
    outcome = Outcome(
        HOSTILE,
        HOSTILE,
        False,
        HOSTILE,
        trials=(
            replace(failed, findings=findings),
            Trial("wf16", "float16", 9, score, TrialState.NOT_NEEDED),
        ),
        layers=(LayerCost(HOSTILE, "conv2d", HOSTILE, 12.0), LayerCost("b", "dense", "", float("-inf"))),
        histogram=Histogram(HOSTILE, (-1.0, 0.0, 1.0), (3, 4)),
        fit=judge(load_profile("coral-usb"), [Row(HOSTILE, Place.CPU, HOSTILE, HOSTILE)], 1, 1, 1),
        notes=(HOSTILE,),
    )
    made = BuildResult(
        HOSTILE, "1", SOURCE, DATA, Limits(), {"numpy": HOSTILE}, outcomes=(outcome,), notes=(HOSTILE,)
    )
    return replace(made, **changes)


class Page(HTMLParser):
    """Elements and every address in the page; text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def html(built: BuildResult) -> str:
    return report.files(built)["report.html"].decode()


def test_names_from_the_model_are_text_and_nothing_else() -> None:
    page = Page(html(result()))
    assert "script" not in page.elements
    assert HOSTILE in page.text


def test_the_page_loads_nothing() -> None:
    text = html(result())
    assert all(a.startswith(("#", "data:image/png;base64,")) for a in Page(text).addresses)
    assert "url(" not in text
    assert Page(text).elements.count("svg") >= 4


def test_every_candidate_and_its_findings_are_in_the_json() -> None:
    document = json.loads(report.files(result())["report.json"])
    assert document["format"] == "edgefleet.report/1"
    assert document["passed"] is False
    first, second = document["profiles"][0]["candidates"]
    assert (first["recipe"], first["latency_ratio"], first["state"]) == ("wi8", 2.0, "failed")
    assert first["findings"][0]["verdict"] == "fail"
    assert second["score"] is None


def test_a_refusal_is_a_report_too() -> None:
    refused = result(outcomes=(), data={}, refusal="x.npz holds 'a'; expected 'x'")
    document = json.loads(report.files(refused)["report.json"])
    assert document["refusal"] == "x.npz holds 'a'; expected 'x'"
    assert "expected 'x'" in Page(html(refused)).text
