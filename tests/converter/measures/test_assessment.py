"""What a build says about an artifact's answers, in whole builds of a real classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_models import answers, classifier, parts, write_data
from sklearn.metrics import f1_score

from edge_contracts.arrays import write_npz
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_convert.build import BuildOptions, build
from edge_convert.gates import Limits
from edge_convert.results import BuildResult

UNTIMED = Limits(latency="off")


def evaluation(path: Path, **more: Any) -> Path:
    x, y = parts()["evaluation"]
    path.write_bytes(write_npz({"x": x, "y": y} | more))
    return path


def options(folder: Path) -> BuildOptions:
    write_private(PrivateKey.generate(), folder / "private.pem")
    rows = np.arange(len(parts()["evaluation"][0]))
    return BuildOptions(
        model=classifier(folder / "digits.onnx"),
        profiles=["arm-cpu"],
        name="digits",
        version="1",
        calibration=write_data(folder / "calibration.npz", "calibration"),
        evaluation=evaluation(folder / "evaluation.npz", slice_pen=np.array(["blue", "red"])[rows % 2]),
        sign_key=folder / "private.pem",
        output=folder / "out",
        recipe="wi8_ai8_minmax_bc",
        limits=UNTIMED,
        prune="none",
    )


def built(options_: BuildOptions, **changes: Any) -> tuple[BuildResult, dict[str, Any]]:
    result = build(replace(options_, **changes), lambda text: None)
    document = json.loads((options_.output / "report.json").read_text(encoding="utf-8"))
    return result, document["profiles"][0]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return built(options(tmp_path_factory.mktemp("assessed")))[1]


def test_the_report_has_every_metric_of_both_models(profile: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in profile["metrics"]}
    assert list(rows) == [
        "accuracy", "top3", "top5", "macro_f1", "roc_auc", "log_loss", "agreement", "sqnr_db",
    ]  # fmt: skip
    x, y = parts()["evaluation"]
    assert rows["macro_f1"]["source"] == pytest.approx(
        f1_score(y, answers(x).argmax(axis=1), average="macro"), abs=2e-3
    )
    (trial,) = [t for t in profile["candidates"] if t["state"] == "chosen"]
    assert profile["assessed"] == trial["name"]
    assert rows["accuracy"]["artifact"] == trial["score"]["artifact"]
    assert rows["accuracy"]["intervals"]["difference"] == pytest.approx(
        [-end for end in reversed(trial["score"]["drop_interval"])]
    )


def test_classes_and_the_files_own_slices_are_in_the_report(profile: dict[str, Any]) -> None:
    slices = profile["slices"]
    assert slices["metric"] == "accuracy"
    names = [(row["group"], row["name"]) for row in slices["rows"]]
    assert names == [("class", str(i)) for i in range(10)] + [("pen", "blue"), ("pen", "red")]
    assert sum(row["samples"] for row in slices["rows"] if row["group"] == "pen") == 497


def test_what_497_samples_cannot_tell_is_warned_of(profile: dict[str, Any]) -> None:
    assert any("slices too small to tell" in warning for warning in profile["warnings"])


def test_a_slice_that_breaks_keeps_the_bundle_back(tmp_path: Path) -> None:
    """Int8 cannot bear a spoilt model's channel; its slices fail with the rest, float16 is what is left."""
    made = options(tmp_path)
    lax = Limits(latency="off", max_drop=100, min_agreement=0)
    broken = replace(made, model=classifier(tmp_path / "spoilt.onnx", spoilt=True))
    _, profile = built(broken, limits=lax)
    failed = [t for t in profile["candidates"] if t["state"] == "failed"]
    assert failed
    for trial in failed:
        verdicts = {f["gate"]: f["verdict"] for f in trial["findings"]}
        assert verdicts["worst slice"] == "fail"
        assert verdicts["accuracy"] == verdicts["agreement"] == "pass"
    allowed, _ = built(broken, limits=replace(lax, max_slice_drop=100))
    assert allowed.outcomes[0].trials[0].state == "chosen"


def test_the_manifest_keeps_the_drops_interval_and_the_abstain_threshold(tmp_path: Path) -> None:
    made = options(tmp_path)
    built(made)
    manifest = open_bundle(made.output / "digits-1-arm-cpu.bundle").manifest
    (score,) = manifest.evaluation.values()
    (promised,) = manifest.confidence.values()
    assert promised.scores == "probabilities" and promised.floor == pytest.approx(1 / 512)
    assert promised.abstain_below is not None and promised.risk is not None
    assert promised.risk <= 0.05 and promised.risk_of == "error"
    assert score.drop_interval is not None and score.drop_interval[0] < score.drop_interval[1]


def test_judged_by_the_interval_a_drop_must_be_shown_to_be_small(tmp_path: Path) -> None:
    made = options(tmp_path)
    result, profile = built(made, limits=replace(UNTIMED, max_drop=0.2, judge_by="interval"))
    assert not result.passed
    assert profile["metrics"], "the best candidate that failed is assessed"
    assert profile["assessed"] == profile["candidates"][0]["name"]


def test_robustness_is_in_the_report_and_judged_on_request(profile: dict[str, Any], tmp_path: Path) -> None:
    found = profile["robustness"]
    assert {row["corruption"] for row in found["rows"]} >= {
        "gaussian noise",
        "blur",
        "brightness",
        "contrast",
    }
    assert (found["truth"], found["metric"], found["samples"]) == ("labels", "accuracy", 200)
    judged = [f["gate"] for c in profile["candidates"] for f in c["findings"]]
    assert "worst slice" in judged and "robustness" not in judged
    made = replace(options(tmp_path), model=classifier(tmp_path / "spoilt.onnx", spoilt=True))
    lax = Limits(latency="off", max_drop=100, min_agreement=0, max_slice_drop=100, max_robustness_drop=10)
    result, refused = built(made, limits=lax)
    verdicts = {f["gate"]: f["verdict"] for f in refused["candidates"][0]["findings"]}
    assert verdicts["robustness"] == "fail" and not result.passed
    assert "fail" not in {v for gate, v in verdicts.items() if gate != "robustness"}
