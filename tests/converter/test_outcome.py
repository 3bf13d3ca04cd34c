"""What a build says of the candidate that it chose."""

from __future__ import annotations

from pathlib import Path

from digit_models import classifier, write_data

from edge_contracts.keys import PrivateKey, write_private
from edge_convert.build import BuildOptions, build
from edge_convert.gates import Limits


def test_a_float_form_that_was_asked_for_by_name_is_no_fallback(tmp_path: Path) -> None:
    write_private(PrivateKey.generate(), tmp_path / "private.pem")
    (outcome,) = build(
        BuildOptions(
            model=classifier(tmp_path / "digits.onnx"),
            profiles=["arm-cpu"],
            name="digits",
            version="1",
            calibration=write_data(tmp_path / "calibration.npz", "calibration", labels=False),
            sign_key=tmp_path / "private.pem",
            output=tmp_path / "out",
            recipe="wf32",
            limits=Limits(latency="off"),
        )
    ).outcomes
    assert outcome.passed
    assert outcome.summary.startswith("float32 by recipe wf32")
