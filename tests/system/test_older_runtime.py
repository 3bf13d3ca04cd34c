"""The agent on tflite-runtime 2.14 with numpy 1, in an environment of its own (`make tflite`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"
OLDER = ROOT / ".tflite" / "bin" / "edge-agent"


@pytest.fixture
def older() -> Path:
    """The command `edge-agent` of that environment."""
    if not OLDER.is_file():
        pytest.skip("no environment with tflite-runtime: make tflite makes one")
    return OLDER


def said(program: Path, *arguments: str | Path, home: Path) -> dict[str, Any]:
    command = [str(program), *map(str, arguments), "--json"]
    environment = os.environ | {"EDGE_AGENT_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_older_runtime_answers_as_the_newer_one(
    older: Path, digits_bundle: Path, publisher: Path, tmp_path: Path
) -> None:
    data = tmp_path / "x.npz"
    np.savez(data, x=np.load(EXAMPLE / "live.npz")["x"][:60])
    asked = ("infer", digits_bundle, "--input", data, "--trust", publisher / "public.pem")
    here = said(Path(sys.executable).with_name("edge-agent"), *asked, home=tmp_path / "newer")
    there = said(older, *asked, home=tmp_path / "older")
    assert "tflite-runtime 2.14" in there["runtime"]
    assert "tflite-runtime" not in here["runtime"]
    ours, theirs = np.array(here["outputs"]["scores"]), np.array(there["outputs"]["scores"])
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))
    # softmax is written with a scale of 1/256: one code apart at most
    assert np.abs(ours - theirs).max() <= 1 / 256 + 1e-6


def test_a_bundle_is_tried_and_installed_on_the_older_runtime(
    older: Path, digits_bundle: Path, publisher: Path, tmp_path: Path
) -> None:
    status = said(
        older, "install", digits_bundle, "--trust", publisher / "public.pem", home=tmp_path / "home"
    )
    assert status["active"]["version"] == "2.0.0"
