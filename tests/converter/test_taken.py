"""Sources that are quantized already: the file itself is the artifact, and nothing is claimed of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_nets import integer_file, pictures

from edge_contracts.arrays import write_npz
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.profile import load_profile
from edge_convert import build as building
from edge_convert.build import BuildOptions, build
from edge_convert.gates import Limits, Verdict
from edge_convert.results import Outcome


def built(folder: Path, **changes: Any) -> tuple[Path, Outcome]:
    """Build an int8 file for one profile."""
    path, _ = integer_file(folder)
    (folder / "calibration.npz").write_bytes(write_npz({"x": pictures(24, seed=5)}))
    write_private(PrivateKey.generate(), folder / "private.pem")
    options = BuildOptions(
        model=path,
        profiles=["arm-cpu"],
        name="m",
        version="1",
        calibration=folder / "calibration.npz",
        sign_key=folder / "private.pem",
        output=folder / "out",
        limits=Limits(latency="off"),
    )
    (outcome,) = build(replace(options, **changes)).outcomes
    return path, outcome


@pytest.mark.parametrize("profile", ["arm-cpu", "coral-tpu"])
def test_the_artifact_is_the_source_byte_for_byte(profile: str, tmp_path: Path) -> None:
    path, outcome = built(tmp_path, profiles=[profile])
    assert outcome.passed and "taken as it is" in outcome.summary
    bundle = open_bundle(tmp_path / "out" / outcome.bundle)
    assert bundle.contents["artifacts/int8.tflite"] == path.read_bytes()
    (artifact,) = bundle.manifest.artifacts
    assert artifact.inputs[0].dtype == "int8" and artifact.inputs[0].scale is not None
    assert bundle.manifest.provenance.recipe.startswith("as_it_is@")


def test_no_gate_that_compares_answers_claims_to_have_judged(tmp_path: Path) -> None:
    _, outcome = built(tmp_path)
    (trial,) = outcome.trials
    verdicts = {f.gate: f.verdict for f in (*outcome.findings, *trial.findings)}
    assert verdicts.pop("size") is Verdict.PASS
    assert {"fidelity", "signal"} <= set(verdicts) and set(verdicts.values()) == {Verdict.NOT_JUDGED}
    assert trial.score is not None and trial.score.sqnr_db is not None  # but what is known is said


def test_a_file_that_is_too_large_for_the_profile_gets_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = load_profile("arm-cpu").model_copy(update={"artifact_bytes": 100})
    monkeypatch.setattr(building, "load_profile", lambda name: small)
    _, outcome = built(tmp_path)
    assert not outcome.passed and "100" in outcome.summary and not outcome.bundle


def test_another_target_and_a_recipe_by_name_start_from_the_float_model(tmp_path: Path) -> None:
    path, outcome = built(tmp_path, recipe="wi8_ai8_minmax")
    bundle = open_bundle(tmp_path / "out" / outcome.bundle)
    assert bundle.contents["artifacts/int8.tflite"] != path.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    _, outcome = built(other, profiles=["intel-npu"], recipe="wi8_ai8_minmax")
    assert outcome.passed and outcome.trials[0].recipe == "wi8_ai8_minmax"
