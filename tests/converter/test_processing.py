"""The file of --processing: what is in it is in the manifest, and what does not fit the model is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_models import classifier, write_data

from edge_contracts.bundle import open_bundle
from edge_contracts.errors import FormatInvalid
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Checks, Classes, Picture, Processing
from edge_convert import processing
from edge_convert.cli import run
from edge_convert.data import InputPort
from edge_convert.errors import DataInvalid

PICTURE = {"kind": "picture", "resample": "pillow-bilinear", "divisor": 255}
DIGITS = """
[inputs.x.prepare]
kind = "picture"
resample = "pillow-box"
divisor = 255
[inputs.x.checks]
constant = "refuse"
[interpret]
kind = "classes"
top_k = 3
"""
SPEC = TensorSpec(name="x", shape=(1, 8, 8, 3), layout="NHWC", color_order="RGB", value_range=(0, 1))
OUTPUTS = (TensorSpec(name="boxes", shape=(1, 6, 4)), TensorSpec(name="scores", shape=(1, 6, 2)))
SAMPLES = {"x": np.random.default_rng(0).uniform(0, 1, (9, 8, 8, 3)).astype(np.float32)}


def said(prepare: dict[str, Any] | None = None, **checks: Any) -> Processing:
    return Processing.model_validate({"inputs": {"x": {"prepare": prepare, "checks": checks or None}}})


@pytest.fixture
def digits(tmp_path: Path) -> list[str]:
    """The command line of a build, but for the file."""
    classifier(tmp_path / "digits.onnx")
    write_data(tmp_path / "calibration.npz", "calibration")
    (tmp_path / "labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    assert run(["keygen", "--output", str(tmp_path / "keys")]) == 0
    return [
        *(
            "build",
            str(tmp_path / "digits.onnx"),
            "--profile",
            "arm-cpu",
            "--name",
            "digits",
            "--version",
            "1",
        ),
        *("--calibration", str(tmp_path / "calibration.npz"), "--labels", str(tmp_path / "labels.txt")),
        *("--recipe", "wi8_ai8_minmax", "--robustness", "off", "--latency-gate", "off"),
        *("--sign-key", str(tmp_path / "keys" / "private.pem"), "--output", str(tmp_path / "out")),
        *("--processing", str(tmp_path / "processing.toml")),
    ]


def test_the_rules_are_in_the_signed_manifest_and_in_the_report(
    digits: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # a field of 0..1 that becomes 0..2 fits, and is doubted
    (tmp_path / "processing.toml").write_text(DIGITS.replace("divisor = 255", "divisor = 127.5"))
    assert run(digits) == 0
    bundle = tmp_path / "out" / "digits-1-arm-cpu.bundle"
    manifest = open_bundle(bundle).manifest
    rule = manifest.inputs[0].prepare
    assert isinstance(rule, Picture)
    assert (rule.resample, rule.divisor) == ("pillow-box", 127.5)
    assert manifest.inputs[0].checks == Checks(constant="refuse")
    assert manifest.interpret == Classes(kind="classes", top_k=3)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["processing"]["inputs"]["pixels"]["prepare"]["resample"] == "pillow-box"
    assert any("check divisor" in note for note in report["notes"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "From bytes to answers" in page
    assert "resample pillow-box" in page
    capsys.readouterr()
    for shown in (["inspect"], ["verify", "--trust", str(tmp_path / "keys" / "public.pem")]):
        assert run([shown[0], str(bundle), *shown[1:]]) == 0
        out = capsys.readouterr().out
        assert 'pixels: prepare  {"kind": "picture", "resample": "pillow-box"' in out
        assert 'interpret  {"kind": "classes"' in out


def test_a_rule_that_makes_other_values_than_calibration_is_refused_before_the_search(
    digits: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "processing.toml").write_text(DIGITS.replace("divisor = 255", "divisor = 1"))
    capsys.readouterr()
    assert run(digits) == 1
    assert "pixels become 0 to 255, the calibration samples of 'pixels' are 0 to 1" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.bundle"))


# --- the file


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[inputs.x", "is not TOML"),
        ("[inputs.x.prepare]\nkind = 'picture'\nresampel = 'pillow-box'", "resampel"),
        ("[inputs.x.prepare]\nkind = 'film'", "'film'"),
        ("[inputs.x.checks]\nstuck_after = 1", "stuck_after"),
        ("[interpet]\nkind = 'classes'", "did you mean 'interpret'"),
    ],
)
def test_a_file_with_a_fault_is_refused_on_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "p.toml").write_text(content)
    with pytest.raises((DataInvalid, FormatInvalid)) as error:
        processing.read(tmp_path / "p.toml", [])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"cannot read .*none\.toml"):
        processing.read(tmp_path / "none.toml", [])


def test_the_only_input_may_be_called_x(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("[inputs.x.checks]\nconstant = 'flag'\n")
    port = InputPort("pixels", (1, 4), "float32")
    assert set(processing.read(tmp_path / "p.toml", [port]).inputs) == {"pixels"}
    assert set(processing.read(tmp_path / "p.toml", [port, port]).inputs) == {"x"}


# --- against the model


def test_an_input_that_the_model_has_not_is_named() -> None:
    with pytest.raises(DataInvalid, match="names the input 'x'; the model has 'y'"):
        processing.check(said(PICTURE), [SPEC.model_copy(update={"name": "y"})], OUTPUTS)


def test_outputs_that_cannot_be_read_so_are_refused() -> None:
    rule = Processing.model_validate({"interpret": {"kind": "detections", "boxes": "boxes"}})
    with pytest.raises(DataInvalid, match=r"interpret, detections: 'boxes' has shape"):
        processing.check(rule, [SPEC], OUTPUTS)


def test_a_rule_that_does_not_fit_its_tensor_is_refused() -> None:
    grey = SPEC.model_copy(update={"color_order": ""})
    with pytest.raises(FormatInvalid, match="needs a colour order"):
        processing.applied(said(PICTURE), (grey,), SAMPLES)


@pytest.mark.parametrize(
    ("rule", "fits", "doubted"),
    [
        ({}, True, False),
        ({"divisor": 127.5, "mean": (1,)}, True, True),  # -1..1 beside 0..1: maybe dim pictures
        ({"divisor": 1}, False, False),
        ({"mean": (0.5,), "std": (0.5,), "divisor": 510}, False, False),
        ({"divisor": 250}, True, False),
    ],
)
def test_what_pixels_become_is_held_against_calibration(
    rule: dict[str, Any], fits: bool, doubted: bool
) -> None:
    if not fits:
        with pytest.raises(DataInvalid, match="check divisor, mean and std"):
            processing.applied(said(PICTURE | rule), (SPEC,), SAMPLES)
        return
    specs = processing.applied(said(PICTURE | rule), (SPEC,), SAMPLES)
    assert bool(processing.doubts(specs)) is doubted


def test_calibration_samples_that_the_checks_would_refuse_are_refused_now() -> None:
    flat = {"x": SAMPLES["x"].copy()}
    flat["x"][4] = 0.5
    with pytest.raises(DataInvalid, match=r"1 of 9 .* constant, and that is refused; the first is sample 4"):
        processing.applied(said(constant="refuse"), (SPEC,), flat)
    processing.applied(said(constant="flag"), (SPEC,), flat)


def test_calibration_rows_outside_the_tables_columns_are_refused() -> None:
    spec = TensorSpec(name="x", shape=(1, 3), value_range=(0, 1))
    columns = [{"name": "a", "low": 0, "high": 10}, {"name": "b", "kind": "category", "values": ["u", "v"]}]
    rows = {"x": np.array([[5, 1, 0], [10, 0, 1], [10.5, 0, 1]], np.float32)}
    table = {"kind": "table", "columns": columns}
    with pytest.raises(DataInvalid, match="the first is sample 2"):
        processing.applied(said(table), (spec,), rows)
    processing.applied(said(table | {"outside": "flag"}), (spec,), rows)
    processing.applied(said(table), (spec,), {"x": rows["x"][:2]})


# --- labels of a detector


def test_a_detectors_labels_are_counted_where_the_outputs_tell(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("face\n")
    shapes = {"o": (1, 7, 30), "boxes": (1, 6, 6)}
    yolo = Processing.model_validate({"interpret": {"kind": "candidates", "output": "o", "along": "columns"}})
    with pytest.raises(DataInvalid, match="1 lines; the model has 3 classes"):
        processing.labels(path, yolo, shapes)
    boxes = Processing.model_validate({"interpret": {"kind": "detections", "boxes": "boxes"}})
    assert processing.labels(path, boxes, shapes) == ("face",)
    for other in (None, Processing(), Processing.model_validate({"interpret": {"kind": "classes"}})):
        with pytest.raises(DataInvalid, match="for boxes that --processing explains"):
            processing.labels(path, other, shapes)
