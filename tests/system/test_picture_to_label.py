"""From a trained model and a file of rules to a label for a PNG, through both command lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from digit_models import classifier, parts, write_data
from input_bundles import encoded
from PIL import Image

from edge_agent.cli import main
from edge_convert.cli import run

RULES = """
[inputs.x]
prepare = { kind = "picture", resample = "pillow-box", divisor = 255 }
[interpret]
kind = "classes"
top_k = 2
"""


def test_a_png_of_a_digit_gets_its_name(tmp_path: Path) -> None:
    classifier(tmp_path / "digits.onnx")
    write_data(tmp_path / "calibration.npz", "calibration")
    (tmp_path / "labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    (tmp_path / "rules.toml").write_text(RULES)
    assert run(["keygen", "--output", str(tmp_path / "keys")]) == 0
    build = [
        "build",
        str(tmp_path / "digits.onnx"),
        "--profile",
        "arm-cpu",
        "--name",
        "digits",
        "--version",
        "1",
    ]
    build += ["--calibration", str(tmp_path / "calibration.npz"), "--labels", str(tmp_path / "labels.txt")]
    build += ["--processing", str(tmp_path / "rules.toml"), "--recipe", "wf32", "--robustness", "off"]
    build += ["--latency-gate", "off", "--sign-key", str(tmp_path / "keys" / "private.pem")]
    assert run([*build, "--output", str(tmp_path / "out")]) == 0
    x, y = parts()["evaluation"]
    # four times as large: the box filter gives the very same 8 x 8 back
    pixels = np.kron(np.rint(x[0, 0] * 255), np.ones((4, 4))).astype(np.uint8)
    (tmp_path / "digit.png").write_bytes(encoded(Image.fromarray(pixels)))
    infer = [
        "infer",
        str(tmp_path / "out" / "digits-1-arm-cpu.bundle"),
        "--input",
        str(tmp_path / "digit.png"),
    ]
    trust = ["--trust", str(tmp_path / "keys" / "public.pem"), "--home", str(tmp_path / "home"), "--json"]
    result = CliRunner().invoke(main, [*infer, *trust])
    assert result.exit_code == 0, result.stderr
    (answer,) = json.loads(result.stdout)["answers"]
    assert answer["top"][0]["class"] == f"digit {y[0]}"
    assert len(answer["top"]) == 2
