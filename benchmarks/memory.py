"""Resident memory of the agent with a model loaded, against Python with the bare runtime.

    python benchmarks/memory.py [MODEL.tflite]

Each line is a process of its own, looked at after a few seconds of inferences: resident memory (RSS) and
the part of it that no other process shares (USS). The last one is the real daemon (`edge-agent run`) with
the bundle installed, answering a folder in a loop.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_contracts.arrays import write_npz  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402

SHARED = ROOT.parent / "shared" / "data" / "models" / "vww_mobilenetv1_int8_ref.tflite"
SETTLE_S = 4.0
ENTRY = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
BARE = """
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path={model!r}, num_threads=1)
model.allocate_tensors()
x = model.get_input_details()[0]
codes = np.zeros(x["shape"], x["dtype"])
for _ in range(200):
    model.set_tensor(x["index"], codes)
    model.invoke()
    model.get_tensor(model.get_output_details()[0]["index"])
"""
AGENT = """
from pathlib import Path
from edge_agent.device.resources import now
from edge_agent.inference.session import Session
from edge_agent.telemetry.windows import WindowCounter
from edge_contracts.arrays import read_npz
from edge_contracts.bundle import MANIFEST
from edge_contracts.manifest import Manifest
from edge_contracts.model import parse_json
folder = Path({folder!r})
manifest = parse_json(Manifest, (folder / MANIFEST).read_bytes(), MANIFEST)
session = Session.open(folder, manifest)
counter = WindowCounter(manifest, "sha256:" + "0" * 64, "model", session.runtime, now(), 0.0)
inputs = read_npz(Path({inputs!r}))
for _ in range(200):
    counter.answered(session.infer(inputs))
"""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    chosen = parser.parse_args().model or (SHARED if SHARED.is_file() else None)
    content = chosen.read_bytes() if chosen else agent_bundles.tflite_int8()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        archive = agent_bundles.around(content)
        bundle = open_bundle(archive)
        bundle.extract(place / "bundle")
        (place / "model.bundle").write_bytes(archive)
        (place / "public.pem").write_bytes(agent_bundles.KEY.public.pem)
        (place / "in").mkdir()
        spec = bundle.manifest.inputs[0]
        (place / "in" / "x.npz").write_bytes(write_npz({"x": np.zeros(spec.shape, np.float32)}))
        paths = {
            "model": str(place / "bundle" / bundle.manifest.artifacts[0].files[0].path),
            "folder": str(place / "bundle"),
            "inputs": str(place / "in" / "x.npz"),
        }
        home = ["--home", str(place / "home")]
        install = ["install", str(place / "model.bundle"), "--trust", str(place / "public.pem"), *home]
        subprocess.run([*ENTRY, *install], check=True, stdout=subprocess.DEVNULL)
        print(f"{chosen.name if chosen else 'tiny int8'}, {len(content)} bytes")
        print(f"{'process':44} {'RSS MiB':>8} {'USS MiB':>8}")
        for name, command in {
            "Python": python(""),
            "Python, numpy": python("import numpy"),
            "Python, LiteRT and the model": python(BARE.format(**paths)),
            "the agent's session and windows": python(AGENT.format(**paths)),
            "edge-agent run": [*ENTRY, "run", *home, "--input", str(place / "in"), "--loop", "--rate", "50"],
        }.items():
            rss, uss = measure(command)
            print(f"{name:44} {rss / 2**20:8.1f} {uss / 2**20:8.1f}")


def python(code: str) -> list[str]:
    """A process that does something, then waits."""
    return [sys.executable, "-c", f"{code}\nimport time\ntime.sleep(600)"]


def measure(command: list[str]) -> tuple[int, int]:
    """Resident and unshared memory of a process that has settled, bytes."""
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SETTLE_S)
        if child.poll() is not None:
            raise SystemExit(f"{command[-1]!r:.80} ended with {child.returncode}")
        memory = psutil.Process(child.pid).memory_full_info()
        return memory.rss, memory.uss
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    main()
