"""What the agent adds to one inference.

    python benchmarks/inference_overhead.py [--rounds N] [--checks] [MODEL.tflite ...]

Both sides answer the same samples on one thread, in rounds that take turns, so that a busy neighbour
slows both. Times are medians over the rounds, "added" and "ratio" medians over the pairs of rounds.
"bare" is the runtime's own calls with inputs that are quantized already; "agent" checks a float input,
quantizes, runs, dequantizes and counts the answer in a telemetry window. Without models on the command
line: the tiny ones of the tests and, where ../shared/data is, the MLPerf Tiny models. --checks: the
contract also asks to look for constant and for stuck samples, which every other contract does not pay for.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_agent.inference.serving import Serving  # noqa: E402
from edge_agent.inference.session import Session  # noqa: E402
from edge_contracts.bundle import Bundle, open_bundle  # noqa: E402
from edge_contracts.processing import Checks  # noqa: E402

ROUND_S = 0.02


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--checks", action="store_true")
    arguments = parser.parse_args()
    shared = sorted((ROOT.parent / "shared" / "data" / "models").glob("*.tflite"))
    bundles = {path.name: agent_bundles.around(path.read_bytes()) for path in arguments.models or shared}
    if not arguments.models:
        bundles = {f"tiny {kind}": agent_bundles.build(kind) for kind in agent_bundles.KINDS} | bundles
    print(f"{'model':34} {'runtime':26} {'bare us':>9} {'agent us':>9} {'added us':>9} {'ratio':>6}")
    for name, content in bundles.items():
        with tempfile.TemporaryDirectory() as scratch:
            bundle = checked(open_bundle(content)) if arguments.checks else open_bundle(content)
            bundle.extract(Path(scratch) / "bundle")
            session = Session.open(Path(scratch) / "bundle", bundle.manifest)
            pairs = measure(bundle, session, Path(scratch) / "bundle", arguments.rounds)
        bare, agent = (statistics.median(side) for side in zip(*pairs, strict=True))
        added = statistics.median(a - b for b, a in pairs)
        ratio = statistics.median(a / b for b, a in pairs)
        print(f"{name:34} {session.runtime:26} {bare:9.1f} {agent:9.1f} {added:9.1f} {ratio:6.2f}")


def measure(bundle: Bundle, session: Session, folder: Path, rounds: int) -> list[tuple[float, float]]:
    """Microseconds of one inference in each round: the bare runtime's, the agent's."""
    manifest = bundle.manifest
    rng = np.random.default_rng(0)
    low, high = manifest.inputs[0].value_range or (0, 1)
    stated = any(spec.checks for spec in manifest.inputs)  # one frame again and again would be stuck
    frames = [
        {s.name: rng.uniform(low, high, s.shape).astype(s.dtype) for s in manifest.inputs}
        for _ in range(2 if stated else 1)
    ]
    serving = Serving.begin(bundle.digest, session, trial=False)
    path = folder / session.artifact.files[0].path
    bare = (bare_openvino if session.artifact.format == "openvino-ir" else bare_litert)(path)

    turn = itertools.cycle(frames)

    def agent() -> None:
        serving.infer(next(turn), "camera")

    count = max(3, int(ROUND_S / max(timed(agent, 20), 1e-6)))
    return [(timed(bare, count) * 1e6, timed(agent, count) * 1e6) for _ in range(rounds)]


def checked(bundle: Bundle) -> Bundle:
    """The same bundle with every further check asked for."""
    checks = Checks(constant="flag", stuck_after=30)
    specs = tuple(spec.model_copy(update={"checks": checks}) for spec in bundle.manifest.inputs)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"inputs": specs}))


def timed(call: Callable[[], Any], count: int) -> float:
    """Seconds of one call, over `count` calls."""
    start = perf_counter()
    for _ in range(count):
        call()
    return (perf_counter() - start) / count


def bare_litert(path: Path) -> Callable[[], Any]:
    """One inference with nothing but LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [(d["index"], np.zeros(d["shape"], d["dtype"])) for d in interpreter.get_input_details()]
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def call() -> Any:
        for index, codes in inputs:
            interpreter.set_tensor(index, codes)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


def bare_openvino(path: Path) -> Callable[[], Any]:
    """One inference as OpenVINO's documentation does it."""
    from edge_agent.runtimes.openvino import import_openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = import_openvino().Core().compile_model(path, "CPU", config)
    request = compiled.create_infer_request()
    inputs = [np.zeros(port.shape, port.element_type.to_dtype()) for port in compiled.inputs]
    return lambda: request.infer(inputs)


if __name__ == "__main__":
    main()
