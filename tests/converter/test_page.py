"""The report's page: what it says, in which order, and that no name in a file can do anything to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from report_documents import HOSTILE, document, profile

from edge_convert import page
from edge_convert.page import axes, canvas, drawings, figures, markup, plots
from edge_convert.page.figures import TIMES

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Elements, addresses, ids and text of a page; nesting that is wrong is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(made: dict[str, Any]) -> str:
    return Page(page.render(made)).text


def test_a_name_from_a_file_is_text_and_nothing_else() -> None:
    shown = Page(page.render(document(HOSTILE)))
    assert "script" not in shown.elements
    assert shown.elements.count("style") == 1
    assert not any(name.startswith("on") or name == "style" for name in shown.attributes)
    assert "</script>" in shown.text
    assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e]", shown.text)


def test_the_page_asks_for_nothing_but_itself() -> None:
    made = page.render(document())
    shown = Page(made)
    assert shown.addresses
    for address in shown.addresses:
        assert address.startswith(("#", "data:image/png;base64,"))
    assert {a[1:] for a in shown.addresses if a.startswith("#")} <= set(shown.ids)
    assert len(set(shown.ids)) == len(shown.ids)
    assert "url(" not in made
    assert "@import" not in made
    assert "default-src &#x27;none&#x27;" in made


def test_a_picture_that_is_not_in_the_page_is_not_shown() -> None:
    one = profile()
    for shown in (one["explanation"]["changes"]["shown"][0], one["explanation"]["occlusion"][0]):
        shown["picture"] = "https://example.org/x.png"
    assert "example.org" not in page.render(document("word", one))


def test_the_verdict_comes_first() -> None:
    nothing: dict[str, Any] = {"passed": False, "bundle": "", "candidates": [], "pareto": []}
    failed = profile("coral-usb", summary="no bundle: too slow", **nothing)
    made = text_of(document("word", profile(), failed, passed=False))
    verdict, figure, gates = (
        made.index(words) for words in ("Converted for 1 of 2 profiles", f"3.3{TIMES} smaller", "Gates")
    )
    assert verdict < figure < gates
    assert "No bundle: too slow" in made
    assert "Converted for all 2 profiles" in text_of(document("word", profile(), profile("b")))
    assert "No artifact passed the gates" in text_of(document("word", failed, passed=False))


def test_a_refusal_is_a_page_too() -> None:
    made = text_of(document(profiles=[], data={}, refusal="x.npz holds 'a'; expected 'x'", passed=False))
    assert "Refused" in made
    assert "x.npz holds 'a'; expected 'x'" in made


def test_what_was_not_found_out_leaves_no_trace() -> None:
    lists = ("artifacts", "candidates", "findings", "layers", "fit", "notes")
    said = {"profile": "arm-cpu", "title": "t", "summary": "s", "bundle": "b", "bundle_digest": "d"}
    bare: dict[str, Any] = said | {"passed": True, "histogram": None} | {name: [] for name in lists}
    shown = Page(page.render(document("word", bare)))
    for absent in (
        "choose from",
        "Gates",
        "Slices",
        "Metrics",
        "How sure",
        "Under noise",
        "changed",
        "looks at",
        "noise comes",
        "Where it runs",
    ):
        assert absent not in shown.text
    assert "svg" not in shown.elements


def test_everything_that_was_found_out_is_on_the_page() -> None:
    made = text_of(document())
    for said in (
        "1 of 9 held-out samples changed their class. 1 were right before, 0 are right now.",
        "rank correlation 0.97",
        "The deepest fall, 11.0 dB, is at layer 2: b (dense).",
        "Those that lose most come first. A slice may lose 5 points.",
        "2 candidates were tried in 3.2 s of 60 s",
        "Answers with a confidence below 0.96 are better withheld: 56.0 % remain",
        "A temperature of 1.06",
        "The artifact loses most under word: 4.5 points (between 1.0 and 8.0).",
        "withstands changes up to 0.03",
        "1.1 µs",
        "1,234,567",
        "88.00 %",
        "\u22122.00 %",
        f"3.3{TIMES} smaller",
        f"3.0{TIMES} faster",
        "0.12 ms → 40 µs",
    ):
        assert said in made


def test_a_noisy_host_claims_no_speed() -> None:
    one = profile(pareto=[])
    one["candidates"][0] |= {"latency_ratio": 0.93, "latency_ms": 0.0527, "source_latency_ms": 0.0489}
    assert "as fast" in text_of(document("word", one))


def test_signal_beyond_hearing_does_not_press_the_others_into_a_corner() -> None:
    one = profile()
    one["pareto"][1]["sqnr_db"] = 130.0
    shown = page.render(document("word", one))
    assert "dB (to 60)" in shown
    assert "130" not in re.findall(r'text-anchor="end">([^<]+)</text>', shown)


def test_the_same_artifact_is_explained_once() -> None:
    made = text_of(document("word", profile("arm-cpu"), profile("x86-cpu")))
    assert made.count("held-out samples changed") == 1
    assert "The same artifact as for arm-cpu" in made


def test_many_notes_are_folded_away() -> None:
    few, many = (page.render(document(notes=[f"note {i}" for i in range(n)])) for n in (3, 9))
    assert "9 notes" in many
    assert "3 notes" not in few
    assert "note 8" in many


def test_an_attack_that_was_not_tried_says_why() -> None:
    one = profile()
    one["robustness"] |= {"rows": [], "worst": None, "attack": {"skipped": "no extra"}}
    assert "Not tried: no extra." in text_of(document("word", one))


def test_without_a_threshold_nothing_is_promised() -> None:
    one = profile()
    one["confidence"]["abstain"] |= {"threshold": None, "curve": []}
    assert "No threshold holds the share of wrong answers to 5.0 % on so few samples." in text_of(
        document("word", one)
    )


def test_permutation_importance_is_drawn_for_both_models() -> None:
    one = profile()
    features = [
        {"name": "x[0]", "source": 0.5, "artifact": 0.4},
        {"name": "x[1]", "source": 0.1, "artifact": 0.2},
    ]
    one["explanation"] |= {
        "occlusion": [],
        "permutation": {"samples": 64, "features": features, "rank_correlation": None},
    }
    shown = page.render(document("word", one))
    assert "x[1]: artifact 0.2" in shown
    assert "one of the two depends on nothing here" in shown


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (figures.size(95_216), "95.2 kB"),
        (figures.size(999_600), "1,000 kB"),
        (figures.size(1_067_488), "1.07 MB"),
        (figures.size(12), "12 B"),
        (figures.times(0.31, "faster", "slower"), f"3.2{TIMES} faster"),
        (figures.times(1.25, "faster", "slower"), f"1.25{TIMES} slower"),
        (figures.times(0.05, "faster", "slower"), f"20{TIMES} faster"),
        (figures.times(1.001, "faster", "slower"), "same"),
        (figures.decibels(None), "exact"),
        (figures.decibels(-3.25), "\u22123.2 dB"),
        (figures.signed(-0.001, 2), "0.00"),
        (figures.signed(1.5, 1, plus=True), "+1.5"),
        (figures.milliseconds(0.038), "38 µs"),
        (figures.general(12345.0), "12,345"),
    ],
)
def test_figures_read_as_people_write_them(found: str, expected: str) -> None:
    assert found == expected


def test_ticks_are_round_and_hold_all_values() -> None:
    scale = axes.linear([0.31, 1.9])
    assert scale.ticks == pytest.approx((0, 0.5, 1.0, 1.5, 2.0))
    assert axes.linear([3, 3]).low < 3 < axes.linear([3, 3]).high
    assert axes.linear([], from_zero=True).ticks[0] == 0
    factors = axes.spread([40, 900])
    assert factors.logarithmic
    assert factors.ticks == (50, 100, 200, 500, 1000)
    assert factors.at(200, 0, 1) - factors.at(100, 0, 1) == pytest.approx(
        factors.at(1000, 0, 1) - factors.at(500, 0, 1)
    )


def numbers(svg: str, name: str) -> list[float]:
    return [float(v) for v in re.findall(rf' {name}="([-\d.]+)"', svg)]


def test_points_stand_where_their_values_are() -> None:
    points = [plots.Point(x, y, 1, "plain", "", "") for x, y in ((0, 0), (1, 10), (0.5, 5))]
    svg = plots.scatter("t", ("x", "y"), points, (axes.linear([0, 1]), axes.linear([0, 10])))
    left, right, top, bottom = (
        canvas.LEFT,
        canvas.WIDTH - canvas.RIGHT,
        canvas.TOP,
        canvas.HEIGHT - canvas.BOTTOM,
    )
    places = dict(zip(numbers(svg, "cx"), numbers(svg, "cy"), strict=True))
    assert places == {left: bottom, right: top, (left + right) / 2: (top + bottom) / 2}


def test_a_limit_outside_the_plot_is_not_drawn() -> None:
    scales = axes.linear([0, 1]), axes.linear([0, 1])
    drawn = [
        plots.scatter("t", ("x", "y"), [], scales, limits=[plots.Limit("x", v, "limit")]) for v in (0.5, 2)
    ]
    assert ["limit-label" in d for d in drawn] == [True, False]


def test_columns_are_to_scale() -> None:
    svg = plots.columns("t", ("x", "y"), [("a", 1.0, 0.5), ("b", 0.25, 0.0)])
    heights = numbers(svg, "height")
    assert heights == pytest.approx([204, 102, 51, 0], abs=0.1)


def test_a_heat_map_has_one_scale_for_both_signs() -> None:
    svg = drawings.heat_map("t", [[1.0, -0.5], [0.0, 0.25]], 1.0, "", 1.0)
    assert numbers(svg, "opacity") == pytest.approx([0.85, 0.425, 0.2125], abs=1e-3)
    assert (svg.count('class="for"'), svg.count('class="against"')) == (2, 1)


def test_labels_do_not_lie_on_one_another() -> None:
    points = [plots.Point(0.1, y, 1, "good", "label", "") for y in (0.5, 0.501, 0.502)]
    svg = plots.scatter("t", ("x", "y"), points, (axes.linear([0, 1]), axes.linear([0, 1])))
    lines = sorted(float(y) for y in re.findall(r'y="([\d.]+)" text-anchor="start" class="label"', svg))
    assert all(b - a >= 13 for a, b in pairwise(lines))


def test_long_names_lose_their_middle_and_ids_stay_distinct() -> None:
    assert len(markup.text("n" * 5000)) < 250
    assert markup.fragment("a", "b c") == "a-b_20_c"
    assert markup.fragment("a b") != markup.fragment("a_b")
