"""What the system tests share: a bundle of the digits example, converted once with the real command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"


def run(*command: str | Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run one of our commands as a user would, and check its exit code."""
    script = Path(sys.executable).parent / str(command[0])
    result = subprocess.run(
        [str(script), *map(str, command[1:])], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == expect, (
        f"{command}: exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    )
    return result


@pytest.fixture(scope="session")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a publisher's private.pem and public.pem."""
    folder = tmp_path_factory.mktemp("publisher") / "keys"
    run("edge-convert", "keygen", "--output", folder)
    return folder


@pytest.fixture(scope="session")
def digits_bundle(tmp_path_factory: pytest.TempPathFactory, publisher: Path) -> Path:
    """Version 2 of the digits example for arm-cpu."""
    folder = tmp_path_factory.mktemp("bundle")
    run(
        "edge-convert", "build", EXAMPLE / "digits-2.onnx", "--profile", "arm-cpu",
        "--name", "digits", "--version", "2.0.0", "--calibration", EXAMPLE / "calibration.npz",
        "--evaluation", EXAMPLE / "evaluation.npz",
        "--sign-key", publisher / "private.pem", "--output", folder,
    )  # fmt: skip
    return folder / "digits-2.0.0-arm-cpu.bundle"
