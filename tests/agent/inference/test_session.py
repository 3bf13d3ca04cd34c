"""A session answers in the contract's space, and a file that is not what the manifest says never opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest

from edge_agent.errors import InferenceFailed, InputRefused, ModelInvalid
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_contracts.bundle import open_bundle
from edge_contracts.features import row_moments
from edge_contracts.manifest import Binding, TensorSpec


def session(tmp_path: Path, *kinds: str, choice: Choice | None = None, **changes: Any) -> Session:
    bundle = open_bundle(agent_bundles.build(*kinds, **changes))
    bundle.extract(tmp_path / "bundle")
    return Session.open(tmp_path / "bundle", bundle.manifest, choice)


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("int8", 0.02), ("openvino", 1e-5)])
def test_a_batch_is_answered_in_the_contracts_space(kind: str, tolerance: float, tmp_path: Path) -> None:
    answer = session(tmp_path, kind).infer({"x": agent_bundles.GOLDEN_X})
    assert answer.outputs["scores"].dtype == np.float32
    expected = agent_bundles.reference(agent_bundles.GOLDEN_X)
    assert np.allclose(answer.outputs["scores"], expected, atol=tolerance)
    assert answer.samples == 16
    assert (answer.latency_ms > 0).all()


@pytest.mark.parametrize("kind", agent_bundles.KINDS)
def test_a_sample_gets_the_same_answer_alone_and_in_a_batch(kind: str, tmp_path: Path) -> None:
    opened = session(tmp_path, kind)
    whole = opened.infer({"x": agent_bundles.GOLDEN_X}).outputs["scores"]
    for row in range(16):
        alone = opened.infer({"x": agent_bundles.GOLDEN_X[row : row + 1]}).outputs["scores"]
        assert np.array_equal(alone[0], whole[row])


def test_an_earlier_answer_is_not_overwritten_by_a_later_one(tmp_path: Path) -> None:
    opened = session(tmp_path, "float32")
    first = opened.infer({"x": agent_bundles.GOLDEN_X[:1]})
    kept = first.outputs["scores"].copy()
    opened.infer({"x": agent_bundles.GOLDEN_X[1:2]})
    assert np.array_equal(first.outputs["scores"], kept)


def test_a_refused_input_leaves_the_session_in_order(tmp_path: Path) -> None:
    opened = session(tmp_path, "int8")
    with pytest.raises(InputRefused):
        opened.infer({"x": np.full((1, 4), np.nan, np.float32)})
    assert opened.infer({"x": agent_bundles.GOLDEN_X}).samples == 16


def test_suspicious_samples_are_answered_and_flagged(tmp_path: Path) -> None:
    answer = session(tmp_path, "int8").infer({"x": agent_bundles.GOLDEN_X * 100})
    assert answer.flagged["out-of-range"] > 0
    assert answer.samples == 16


def test_the_trials_choice_is_what_is_opened(tmp_path: Path) -> None:
    choice = Choice(Option("float32", "litert", "CPU"), "int8 crashed")
    opened = session(tmp_path, "int8", "float32", choice=choice)
    assert opened.artifact.id == "float32"
    assert opened.choice.fallback == "int8 crashed"
    assert opened.runtime.startswith("litert ")


@pytest.mark.parametrize("is_straight", [True, False])
def test_moments_are_noted_of_large_inputs_and_only_where_somebody_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_straight: bool
) -> None:
    one = {"x": agent_bundles.GOLDEN_X[:1]}
    small = session(tmp_path / "small", "float32")
    small.monitor()
    assert small.infer(one).moments == {}
    monkeypatch.setattr("edge_contracts.features.LARGE", 3)
    opened = session(tmp_path / "large", "float32")
    if not is_straight:
        opened._straight = None
    assert opened.infer(one).moments == {}
    wanted = iter((True, False, True))
    opened.monitor(lambda: next(wanted))
    expected = {"x": row_moments(agent_bundles.GOLDEN_X[0])}
    assert [opened.infer(one).moments for _ in range(3)] == [expected, None, expected]
    assert opened.infer({"x": agent_bundles.GOLDEN_X[:2]}).moments == {}


@pytest.mark.parametrize("kind", agent_bundles.KINDS)
def test_the_straight_way_answers_what_the_general_one_does(tmp_path: Path, kind: str) -> None:
    opened = session(tmp_path, kind)
    straight = opened._straight
    assert straight is not None
    rng = np.random.default_rng(5)
    samples = [row[np.newaxis] for row in rng.uniform(-2, 2, (50, 4)).astype(np.float32)]
    samples += [
        samples[0] * 1.9,
        samples[1] * 100,
        np.zeros((1, 4), np.float32),
    ]  # cut off, far, all the same
    samples += [np.asfortranarray(samples[2]), samples[3].astype(np.float64), np.repeat(samples[4], 2, 0)]
    taken = 0
    for x in samples:
        taken += straight(x) is not None
        quick = opened.infer({"x": x})
        opened._straight = None
        slow = opened.infer({"x": x})
        opened._straight = straight
        assert quick.outputs["scores"].tobytes() == slow.outputs["scores"].tobytes()
        assert quick.outputs["scores"].dtype == slow.outputs["scores"].dtype
        assert quick.flagged == slow.flagged
        assert quick.inputs["x"].dtype == slow.inputs["x"].dtype
    assert 40 < taken < len(samples)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_no_way_lets_a_number_through_that_is_none(tmp_path: Path, kind: str, value: float) -> None:
    opened = session(tmp_path, kind)
    x = agent_bundles.GOLDEN_X[:1].copy()
    x[0, 2] = value
    with pytest.raises(InputRefused) as refused:
        opened.infer({"x": x})
    assert refused.value.code == "not-finite"


def test_times_of_a_batch_are_an_array_for_who_wants_one(tmp_path: Path) -> None:
    answer = session(tmp_path, "float32").infer({"x": agent_bundles.GOLDEN_X})
    assert answer.latency_ms.shape == (16,)
    assert answer.latency_ms.tolist() == list(answer.took_ms)


def test_a_closed_session_refuses(tmp_path: Path) -> None:
    opened = session(tmp_path, "float32")
    opened.close()
    with pytest.raises(InferenceFailed):
        opened.infer({"x": agent_bundles.GOLDEN_X})


def bound(**changes: Any) -> tuple[Binding, ...]:
    fields = {"name": "x", "tensor": "x", "dtype": "float32", "shape": (1, 4)} | changes
    return (Binding.model_validate(fields),)


@pytest.mark.parametrize(
    ("artifact", "manifest", "text"),
    [
        ({"inputs": bound(tensor="picture")}, {}, "no input 'picture', it has x"),
        ({"inputs": bound(dtype="int8", scale=0.1)}, {}, "is float32 .*the manifest says int8"),
        ({"inputs": bound(shape=(1, 5))}, {}, r"\(1, 4\), the manifest says float32 \(1, 5\)"),
        (
            {"outputs": bound(name="scores", tensor="logits", shape=(1, 3))},
            {},
            "no output 'logits', it has scores",
        ),
        (
            {},
            {"inputs": (TensorSpec(name="x", shape=(1, 2, 2)),)},
            r"shape \(1, 4\).* does not fit the contract's \(1, 2, 2\)",
        ),
        (
            {},
            {"outputs": (TensorSpec(name="scores", shape=(1, 10)),)},
            r"shape \(1, 3\).* does not fit the contract's \(1, 10\)",
        ),
        ({}, {"inputs": (TensorSpec(name="x", shape=(4,)),)}, r"does not fit the contract's \(4,\)"),
        ({}, {"outputs": (TensorSpec(name="scores", shape=()),)}, r"does not fit the contract's \(\)"),
        ({"inputs": bound(scale=0.1)}, {}, "float32 and has a scale"),
    ],
)
def test_a_file_that_is_not_what_the_manifest_says_never_opens(
    artifact: dict[str, Any], manifest: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelInvalid, match=text):
        session(tmp_path, "float32", artifact=artifact, manifest=manifest)
