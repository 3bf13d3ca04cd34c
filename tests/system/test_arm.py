"""The ARM artifact on ARM: the agent's own answers under aarch64 emulation against those of this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_convert.device.arm import Userland

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"
SAMPLES = 20  # a quarter of a second each under emulation


def infer(python: list[str], bundle: Path, data: Path, **environment: str) -> dict[str, Any]:
    """Answers of `edge-agent infer --json` in some Python."""
    main = "from edge_agent.cli import main; main()"
    command = [*python, "-c", main, "infer", str(bundle), "--input", str(data), "--json"]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_an_int8_bundle_answers_the_same_on_arm(
    cpu: str, digits_bundle: Path, arm_userland: Userland, tmp_path: Path
) -> None:
    data = tmp_path / "x.npz"
    np.savez(data, x=np.load(EXAMPLE / "live.npz")["x"][:SAMPLES])
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("agent", "contracts"))
    here = infer([sys.executable], digits_bundle, data)
    there = infer([str(arm_userland.python)], digits_bundle, data, ARM_PYTHONPATH=paths, ARM_CPU=cpu)
    ours, arms = np.array(here["outputs"]["scores"]), np.array(there["outputs"]["scores"])
    assert ours.shape == arms.shape == (SAMPLES, 10)
    assert np.array_equal(ours.argmax(1), arms.argmax(1))
    # softmax is written with a scale of 1/256: one code apart at most
    assert np.abs(ours - arms).max() <= 1 / 256 + 1e-6
