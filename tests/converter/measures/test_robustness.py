"""What corruption does to source and artifact, and the attack of the real toolbox."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_models import opened
from small_nets import Net, picture_net, pictures

from edge_convert import gates
from edge_convert.binding import Model
from edge_convert.data import Split
from edge_convert.evidence import Answered, Evidence
from edge_convert.gates import Verdict
from edge_convert.graph import Array, Graph, Op
from edge_convert.measures import attack, robustness
from edge_convert.measures.robustness import Trials
from edge_convert.measures.truth import Truth

NONE = np.zeros(0, np.intp)


class Noisy(Model):
    """A model whose scores lose their sense where inputs are bright."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        answers = super().run(feeds)
        bright = next(iter(feeds.values())).reshape(len(next(iter(feeds.values()))), -1).mean(axis=1) > 0.62
        return {name: np.where(bright[:, None], -values, values) for name, values in answers.items()}


def fragile(model: Model) -> Model:
    return Noisy(model.engine, model.inputs, model.outputs, model.dtypes)


def evidence_of(
    graph: Graph, feeds: Mapping[str, Array], task: Any = "classification", labelled: bool = True
) -> Evidence:
    model = opened(graph)
    answers = model.run(feeds)
    first = next(iter(answers.values()))
    truth = Truth(classes=first.argmax(axis=1)) if labelled else None
    answered = Answered(feeds, answers, truth)
    return Evidence(task, 10, answered, Split(NONE, NONE, NONE), answered)


def labelled_picture_net() -> Graph:
    graph = picture_net()
    return replace(graph, inputs=tuple(replace(p, layout="NHWC") for p in graph.inputs))


GRAPH = labelled_picture_net()
FEEDS = {"x": pictures(60)}


def trials(mode: Any = "basic", **more: Any) -> Trials:
    return Trials(GRAPH, opened(GRAPH), evidence_of(GRAPH, FEEDS, **more), mode)


def test_an_artifact_that_equals_its_source_loses_nothing_under_any_corruption() -> None:
    made = Trials(GRAPH, fragile(opened(GRAPH)), evidence_of(GRAPH, FEEDS))
    found = made.of(fragile(opened(GRAPH)))
    assert found is not None
    assert found.clean.source == found.clean.artifact
    assert {row.drop for row in found.rows} == {0.0}
    assert {row.agreement for row in found.rows} == {1.0}
    assert min(row.source or 0 for row in found.rows) < 1  # corruption costs both the same
    assert found.worst is not None and found.worst.drop == 0


def test_what_breaks_under_brightness_alone_is_found_though_clean_answers_agree() -> None:
    found = trials().of(fragile(opened(GRAPH)))
    assert found is not None and found.worst is not None
    assert found.clean.drop is not None and found.clean.drop < 0.05
    assert found.worst.corruption == "brightness"
    assert found.worst.drop > 0.3
    assert found.worst.interval is not None and found.worst.interval[0] > 0.2
    low, high = found.worst.interval
    finding = gates.robustness_drop("brightness", found.worst.drop, (low, high), 10.0)
    assert finding.verdict is Verdict.FAIL
    assert "under brightness the artifact loses" in finding.reason
    assert gates.robustness_drop("blur", 0.05, None, 10.0).verdict is Verdict.PASS
    assert gates.robustness_drop("", None, None, 10.0).verdict is Verdict.NOT_JUDGED


def test_without_labels_the_sources_clean_answers_are_right() -> None:
    made = trials(labelled=False)
    found = made.of(opened(GRAPH))
    assert found is not None
    assert found.truth == "the source's answer to the clean sample"
    assert found.clean.source == 1.0


def test_a_model_that_does_not_classify_is_held_against_its_sources_corrupted_answers() -> None:
    net = Net({"x": (1, 6)})
    graph = net.graph(net.node(Op.DENSE, ["x", net.weight(3, 6)], "y", activation="none"))
    feeds = {"x": np.random.RandomState(0).normal(0, 1, (40, 6)).astype(np.float32)}
    made = Trials(graph, opened(graph), evidence_of(graph, feeds, "other", labelled=False))
    found = made.of(opened(graph))
    assert found is not None and found.worst is None and found.metric == ""
    assert {row.corruption for row in found.rows} == {"noise", "feature dropout"}
    assert {row.sqnr_db for row in found.rows} == {None}


def test_off_and_inputs_of_whole_numbers_have_none() -> None:
    assert trials("off").of(opened(GRAPH)) is None


def test_each_artifact_is_run_once() -> None:
    made, model = trials(), opened(GRAPH)
    assert made.of(model) is made.of(model)


def test_what_needs_a_missing_package_is_skipped_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = trials().of(opened(GRAPH))
    assert found is not None
    (skipped,) = found.as_json()["skipped"]
    assert skipped == {
        "corruption": "JPEG",
        "reason": "PIL is not installed: pip install 'edgefleet[robustness]'",
    }
    assert "JPEG" not in {row.corruption for row in found.rows}
    with pytest.raises(ModuleNotFoundError) as missing:
        trials("attack")
    assert missing.value.name == "art"


def test_a_large_model_gets_fewer_samples_at_one_severity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "AFFORDABLE_MACS", 1.0)
    found = trials().of(opened(GRAPH))
    assert found is not None
    assert found.samples == robustness.FEWEST_SAMPLES
    assert {row.severity for row in found.rows} == {2}


def line(steepness: float, at: float) -> Graph:
    """Two classes that meet where the first feature is `at`."""
    net = Net({"x": (1, 3)})
    weights = net.constant(np.array([[-steepness, 0, 0], [steepness, 0, 0]], np.float32))
    bias = net.constant(np.array([steepness * at, -steepness * at], np.float32))
    return net.graph(net.node(Op.DENSE, ["x", weights, bias], "y", activation="none"))


def test_the_attack_finds_how_far_the_boundary_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("art")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(attack, "MOST_SAMPLES", 8)
    feeds = {"x": np.random.RandomState(0).uniform(0, 1, (40, 3)).astype(np.float32)}
    source, artifact = line(4.0, 0.5), line(4.0, 0.7)
    made = Trials(source, opened(source), evidence_of(source, feeds), "attack")
    before = str(np.random.get_state())
    found = made.of(opened(artifact))
    assert found is not None and found.attack is not None
    assert str(np.random.get_state()) == before
    assert os.environ["HOME"] == str(tmp_path) and not list(tmp_path.iterdir())
    first = made.clean.feeds["x"][: attack.MOST_SAMPLES, 0].astype(np.float64)
    span = made.spaces["x"].high - made.spaces["x"].low
    for key, boundary in (("source", 0.5), ("artifact", 0.7)):
        told = found.attack[key]
        assert told["fooled"] == 1.0
        away = np.abs(first - boundary) / span
        assert told["median_distance"] == pytest.approx(np.median(away), rel=0.15)
        assert told["withstands_small"] == pytest.approx((away > attack.SMALL).mean(), abs=0.13)
        assert 100 < told["questions_per_sample"] <= attack.BUDGET
    assert made.of(opened(artifact)).attack == found.attack  # type: ignore[union-attr]


def test_only_classifiers_with_one_real_input_are_attacked() -> None:
    x = np.ones((4, 2), np.float32)
    one, two = Answered({"x": x}, {"y": x}), Answered({"x": x, "z": x}, {"y": x})
    space = trials().spaces["x"]
    assert attack.why_not(one, space, "classification") == ""
    assert "classifiers" in attack.why_not(one, space, "other")
    assert "one input" in attack.why_not(two, space, "classification")
    assert "one input" in attack.why_not(one, None, "classification")
