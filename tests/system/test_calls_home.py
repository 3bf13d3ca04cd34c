"""Nothing calls home: what a command connects to is what it was told to, and nothing else.

Every Python process that a command starts gets an audit hook which notes the address of each
connection and each look-up of a name (PEP 578); the converter's runtimes bring a telemetry client
of their maker's, which must never be heard of.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits"
HOOK = """
import os, sys
def note(event, arguments):
    if event == "socket.connect":
        told = arguments[1]
    elif event == "socket.getaddrinfo":
        told = arguments[0]
    else:
        return
    with open(os.environ["EDGEFLEET_CONNECTIONS"], "a") as log:
        log.write(f"{event} {told!r}\\n")
sys.addaudithook(note)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which every connection of every Python process is noted."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    connections = tmp_path / "connections"
    connections.touch()
    return os.environ | {"PYTHONPATH": str(tmp_path / "hook"), "EDGEFLEET_CONNECTIONS": str(connections)}


def run(environment: dict[str, str], program: str, *words: str | Path) -> None:
    script = Path(sys.executable).with_name(program)
    done = subprocess.run(
        [str(script), *map(str, words)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def connections(environment: dict[str, str]) -> list[str]:
    return Path(environment["EDGEFLEET_CONNECTIONS"]).read_text().splitlines()


def test_the_watch_sees_a_connection(watched: dict[str, str]) -> None:
    script = "import socket\ntry:\n socket.create_connection(('127.0.0.1', 9), 0.2)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", script], env=watched, check=True, timeout=60)
    assert any("127.0.0.1" in line for line in connections(watched))


def test_a_conversion_for_every_family_and_an_inference_connect_to_nothing(
    watched: dict[str, str], tmp_path: Path
) -> None:
    keys, out = tmp_path / "keys", tmp_path / "out"
    run(watched, "edge-convert", "keygen", "--output", keys)
    run(
        watched, "edge-convert", "build", EXAMPLE / "digits-1.onnx",
        "--profile", "arm-cpu", "--profile", "intel-npu", "--profile", "coral-tpu",
        "--name", "digits", "--version", "1.0.0", "--calibration", EXAMPLE / "calibration.npz",
        "--sign-key", keys / "private.pem", "--output", out,
    )  # fmt: skip
    for bundle in sorted(out.glob("*.bundle")):
        run(watched, "edge-agent", "infer", bundle, "--input", EXAMPLE / "live.npz")
    assert connections(watched) == []


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("script", "module", "model"),
    [
        ("torch_programs.py", "torch", "classifier.pt2"),
        ("keras_models.py", "tensorflow", "classifier.keras"),
    ],
)
def test_frameworks_that_read_their_files_connect_to_nothing(
    script: str, module: str, model: str, watched: dict[str, str], tmp_path: Path
) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed; make frameworks installs it")
    subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / script), str(tmp_path)], check=True, timeout=600
    )
    run(watched, "edge-convert", "inspect", tmp_path / model)
    assert connections(watched) == []
