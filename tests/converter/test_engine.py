"""Engines and bindings: files run by their own runtimes, spoken to in the source's space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from digit_models import answers, classifier, parts

from edge_contracts.manifest import Binding
from edge_convert.binding import bind_artifact, decode, encode
from edge_convert.emitters import tflite
from edge_convert.engine import LiteRtEngine, OpenVinoEngine, open_artifact, run
from edge_convert.errors import SourceInvalid
from edge_convert.source import read_source
from edge_convert.timing import interleaved_ms


def test_a_source_in_its_own_runtime_gives_what_numpy_gives(tmp_path: Path) -> None:
    source = read_source(classifier(tmp_path / "digits.onnx"))
    x = parts()["evaluation"][0][:20]
    found = source.open().run({"pixels": x})
    np.testing.assert_allclose(found["scores"], answers(x), atol=1e-5)


def test_an_artifact_in_another_layout_is_spoken_to_in_the_sources(tmp_path: Path) -> None:
    """The digits' source is NCHW, a .tflite is NHWC."""
    source = read_source(classifier(tmp_path / "digits.onnx"))
    engine = open_artifact({"artifacts/float32.tflite": tflite.emit(source.graph)}, "tflite")
    model = bind_artifact(source.graph, engine)
    x = parts()["evaluation"][0][:20]
    np.testing.assert_allclose(model.run({"pixels": x})["scores"], answers(x), atol=1e-5)


def test_encoding_rounds_to_even_and_saturates() -> None:
    binding = Binding(name="x", tensor="t", dtype="int8", shape=(1, 4), scale=0.5, zero_point=10)
    # 0.25 / 0.5 = 0.5 -> 0, 0.75 / 0.5 = 1.5 -> 2, by hand
    codes = encode(binding, np.array([[0.25, 0.75, 1000.0, -1000.0]], np.float32))
    assert codes.tolist() == [[10, 12, 127, -128]]
    assert codes.dtype == np.int8


def test_decoding_undoes_scale_then_transposes() -> None:
    binding = Binding(
        name="y", tensor="t", dtype="int8", shape=(1, 2, 3), perm=(0, 2, 1), scale=0.5, zero_point=10
    )
    values = decode(binding, np.array([[[10, 12, 14], [16, 18, 20]]], np.int8))
    assert values.tolist() == [[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]]


def test_an_open_batch_becomes_one(tmp_path: Path) -> None:
    engine = OpenVinoEngine(classifier(tmp_path / "digits.onnx").read_bytes())
    assert engine.inputs[0].shape == (1, 1, 8, 8)


def test_garbage_is_refused_on_one_line() -> None:
    for opened in (LiteRtEngine, OpenVinoEngine):
        with pytest.raises(SourceInvalid) as caught:
            opened(b"no model at all")
        assert "\n" not in str(caught.value)


def test_litert_stays_off_the_error_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = read_source(classifier(tmp_path / "digits.onnx"))
    engine = LiteRtEngine(tflite.emit(source.graph))
    run(engine, {engine.inputs[0].name: np.zeros((1, *engine.inputs[0].shape[1:]), np.float32)})
    assert capfd.readouterr().err == ""


def test_rounds_are_interleaved_and_timed_per_call() -> None:
    """Every call moves this clock by its own cost, so that the answer is known."""
    now = 0.0
    order: list[str] = []

    def costs(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds
        order.append(name)

    times = interleaved_ms(
        {"slow": lambda: costs("slow", 0.01), "fast": lambda: costs("fast", 0.005)},
        rounds=4,
        clock=lambda: now,
    )
    assert times["slow"] == pytest.approx([10.0] * 4)
    assert times["fast"] == pytest.approx([5.0] * 4)
    timed = order[8:]  # the first eight warm up: one call, then three, each
    assert timed == ["slow", "fast", "fast", "fast", "fast", "slow"] * 2
