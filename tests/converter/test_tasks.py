"""Whole builds of what does not classify: a regression, an auto-encoder and a detector, with their labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import Network, rng, saved
from sklearn.metrics import r2_score, roc_auc_score

from edge_contracts.arrays import write_npz
from edge_contracts.keys import PrivateKey, write_private
from edge_convert.build import BuildOptions, build
from edge_convert.errors import DataInvalid
from edge_convert.gates import Limits

N = 120
X = rng(5).normal(0, 1, (N, 8)).astype(np.float32)


def profile_of(folder: Path, model: Path, task: Any = None, **arrays: Any) -> dict[str, Any]:
    write_private(PrivateKey.generate(), folder / "private.pem")
    (folder / "calibration.npz").write_bytes(write_npz({"x": rng(6).normal(0, 1, (80, 8)).astype("f4")}))
    (folder / "evaluation.npz").write_bytes(write_npz({"x": X} | arrays))
    build(
        BuildOptions(
            model=model,
            profiles=["arm-cpu"],
            name="m",
            version="1",
            calibration=folder / "calibration.npz",
            evaluation=folder / "evaluation.npz",
            sign_key=folder / "private.pem",
            output=folder / "out",
            recipe="wi8_ai8_minmax",
            limits=Limits(latency="off", max_drop=5),
            task=task,
        ),
        lambda text: None,
    )
    document = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    return {"task": document["task"], **document["profiles"][0]}


def gemm(net: Network, x: str, inner: int, outer: int, seed: int, gain: float = 1.0, bias: Any = None) -> str:
    weights = gain * rng(seed).normal(0, 1 / np.sqrt(inner), (inner, outer))
    bias = np.zeros(outer) if bias is None else np.asarray(bias)
    return str(net.node("Gemm", x, net.weight(weights.astype("f4")), net.weight(bias.astype("f4"))))


def test_real_valued_labels_make_a_regression_with_its_r2(tmp_path: Path) -> None:
    net = Network({"x": (1, 8)})
    model = saved(net.model(gemm(net, net.node("Relu", gemm(net, "x", 8, 16, 0)), 16, 1, 1)), tmp_path)
    hidden = np.maximum(X @ (rng(0).normal(0, 1 / np.sqrt(8), (8, 16))), 0)
    clean = hidden @ rng(1).normal(0, 0.25, (16, 1))
    y = (clean + 0.1 * rng(7).normal(0, 1, clean.shape)).astype(np.float32)
    found = profile_of(tmp_path, model, y=y, slice=(X[:, 0] > 0))
    assert found["task"] == "regression" and found["passed"], found["summary"]
    rows = {row["name"]: row for row in found["metrics"]}
    assert list(rows) == ["r2", "mae", "rmse", "sqnr_db"]
    assert rows["r2"]["source"] == pytest.approx(r2_score(y, clean), abs=1e-4)
    assert [row["name"] for row in found["slices"]["rows"]] == ["False", "True"]
    assert found["confidence"] is None
    assert found["robustness"]["metric"] == "r2"


def test_an_auto_encoders_anomalies_are_told_by_its_errors(tmp_path: Path) -> None:
    net = Network({"x": (1, 8)})
    model = saved(net.model(gemm(net, net.node("Relu", gemm(net, "x", 8, 16, 0)), 16, 8, 1)), tmp_path)
    hidden = np.maximum(X @ (rng(0).normal(0, 1 / np.sqrt(8), (8, 16))), 0)
    rebuilt = hidden @ rng(1).normal(0, 0.25, (16, 8))
    errors = np.square(rebuilt - X).mean(axis=1)
    y = (errors + rng(8).normal(0, 0.3, N) > np.median(errors)).astype(np.int64)
    found = profile_of(tmp_path, model, y=y)
    assert found["task"] == "reconstruction" and found["passed"], found["summary"]
    assert found["metrics"][0]["name"] == "roc_auc"
    assert found["metrics"][0]["source"] == pytest.approx(roc_auc_score(y, errors), abs=1e-3)


def detector(folder: Path) -> Path:
    """Two boxes: their corners, their classes (0 and 1, but for rounding) and their scores."""
    net = Network({"x": (1, 8)})
    corners = gemm(net, "x", 8, 8, 0, 0.02, [0.1, 0.1, 0.4, 0.4, 0.5, 0.5, 0.9, 0.9])
    boxes = net.node("Reshape", corners, net.weight(np.array([1, 2, 4])))
    classes = gemm(net, "x", 8, 2, 1, 0.001, [0.0, 1.0])
    scores = net.node("Sigmoid", gemm(net, "x", 8, 2, 2, 0.5))
    return saved(net.model(boxes, classes, scores), folder)


def test_a_detector_is_scored_by_its_boxes(tmp_path: Path) -> None:
    boxes = (X @ (0.02 * rng(0).normal(0, 1 / np.sqrt(8), (8, 8)))).reshape(N, 2, 4)
    boxes += np.array([[0.1, 0.1, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]])
    classes = np.tile([0, 1], (N, 1))
    classes[::5, 1] = -1  # every fifth sample has one box, and its second detection is wrong
    found = profile_of(tmp_path, detector(tmp_path), "detection", boxes=boxes, box_classes=classes)
    rows = {row["name"]: row for row in found["metrics"]}
    assert list(rows) == ["map", "map50", "sqnr_db"]
    assert 0.8 < rows["map50"]["source"] < 0.99
    assert rows["map50"]["artifact"] == pytest.approx(rows["map50"]["source"], abs=0.05)
    (trial,) = found["candidates"]  # too small for int8 to be smaller: that gate alone says no
    assert [f["gate"] for f in trial["findings"] if f["verdict"] == "fail"] == ["smaller"]
    assert (trial["score"]["metric"], trial["findings"][0]["gate"]) == ("map", "accuracy")
    assert trial["findings"][0]["verdict"] == "pass"
    assert rows["map"]["primary"] and rows["map"]["intervals"]["difference"]


def test_boxes_for_outputs_that_are_not_understood_stop_the_build(tmp_path: Path) -> None:
    net = Network({"x": (1, 8)})
    model = saved(net.model(gemm(net, "x", 8, 12, 0)), tmp_path)
    boxes = np.tile([0.1, 0.1, 0.4, 0.4], (N, 1, 1))
    with pytest.raises(DataInvalid, match="can be scored from boxes"):
        profile_of(tmp_path, model, "detection", boxes=boxes, box_classes=np.zeros((N, 1), np.int64))
