"""What the agent adds to one inference.

    python benchmarks/inference_overhead.py [--rounds N] [--checks] [MODEL.tflite ...]

All sides answer the same samples on one thread, in short rounds that take turns, so that a busy neighbour
slows all. Times are medians over the rounds, "added" and "ratio" medians over pairs of rounds. "codes" is the
bare runtime's own calls with inputs that are quantized already, its answers left as they are. "floats" is the
same from the float32 numbers that the agent is given to float32 answers, quantized by the agent's own
arithmetic with nothing checked or counted, which is quicker than what LiteRT's documentation does. "agent"
checks a float input, quantizes, runs, dequantizes and counts the answer in a telemetry window, as a device
does that is asked eighty times a second or more; "whole" as one does that is asked less than twenty times,
which takes the moments of every large input. Without models on the command line: the tiny ones of the tests
and, where ../shared/data is, the MLPerf Tiny models. --checks: the contract also asks to look for constant
and for stuck samples, which every other contract does not pay for.
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
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_agent.inference.binding import InputBinder, OutputBinder  # noqa: E402
from edge_agent.inference.serving import Serving  # noqa: E402
from edge_agent.inference.session import Session  # noqa: E402
from edge_agent.telemetry.thinning import FEWEST, SHARE  # noqa: E402
from edge_contracts.bundle import Bundle, open_bundle  # noqa: E402
from edge_contracts.processing import Checks  # noqa: E402

SIDES = ("codes", "floats", "agent", "whole")
CALLS = 25  # in a round
SETTLE = FEWEST * SHARE + 100  # calls in the window before, so that this one takes one in SHARE


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--checks", action="store_true")
    arguments = parser.parse_args()
    shared = sorted((ROOT.parent / "shared" / "data" / "models").glob("*.tflite"))
    bundles = {path.name: agent_bundles.around(path.read_bytes()) for path in arguments.models or shared}
    if not arguments.models:
        bundles = {f"tiny {kind}": agent_bundles.build(kind) for kind in agent_bundles.KINDS} | bundles
    print(f"{'':30}{'us':>9} {'':26} {'beside codes':>15} {'beside floats':>15} {'whole, floats':>15}")
    print(f"{'model':30}" + "".join(f"{side:>9}" for side in SIDES) + f"{'added':>9} {'ratio':>6}" * 3)
    for name, content in bundles.items():
        with tempfile.TemporaryDirectory() as scratch:
            bundle = checked(open_bundle(content)) if arguments.checks else open_bundle(content)
            bundle.extract(Path(scratch) / "bundle")
            session = Session.open(Path(scratch) / "bundle", bundle.manifest)
            found = measure(bundle, session, Path(scratch) / "bundle", arguments.rounds)
        cells = [f"{statistics.median(found[side]):9.1f}" for side in SIDES]
        for side, other in (("agent", "codes"), ("agent", "floats"), ("whole", "floats")):
            pairs = list(zip(found[side], found[other], strict=True))
            added, ratio = (
                statistics.median(a - b for a, b in pairs),
                statistics.median(a / b for a, b in pairs),
            )
            cells.append(f"{added:9.1f} {ratio:6.2f}")
        print(f"{name.removesuffix('.tflite'):30}" + "".join(cells))


def measure(bundle: Bundle, session: Session, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds of one inference in each round, by side."""
    manifest = bundle.manifest
    rng = np.random.default_rng(0)
    low, high = manifest.inputs[0].value_range or (0, 1)
    stated = any(spec.checks for spec in manifest.inputs)  # one frame again and again would be stuck
    frames = [
        {s.name: rng.uniform(low, high, s.shape).astype(s.dtype) for s in manifest.inputs}
        for _ in range(2 if stated else 1)
    ]
    path = folder / session.artifact.files[0].path
    sides = dict.fromkeys(SIDES, bare_openvino(path) if is_openvino(session) else bare_litert(path))
    if not is_openvino(session):  # which takes and gives floats as it is
        sides["floats"] = from_floats(path, session, frames[0])
    whole = Session.open(folder, manifest)
    for side, opened in (("agent", session), ("whole", whole)):
        serving = Serving.begin(bundle.digest, opened, trial=False)
        sides[side] = served(serving, frames)
        timed(sides[side], SETTLE)
        serving.cut()
    whole.monitor(lambda: True)
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, call in sides.items():
            call()
            found[side].append(timed(call, CALLS) * 1e6)
    whole.close()
    return found


def is_openvino(session: Session) -> bool:
    """Whether it runs there and not in LiteRT."""
    return session.artifact.format == "openvino-ir"


def served(serving: Serving, frames: list[dict[str, NDArray[Any]]]) -> Callable[[], Any]:
    """One inference by the agent."""
    turn = itertools.cycle(frames)
    return lambda: serving.infer(next(turn), "camera")


def from_floats(path: Path, session: Session, frame: dict[str, NDArray[Any]]) -> Callable[[], Any]:
    """One inference with nothing but LiteRT and numpy, from the contract's numbers to its numbers."""
    from ai_edge_litert.interpreter import Interpreter

    manifest, artifact = session.manifest, session.artifact
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    index = {
        d["name"]: d["index"] for d in interpreter.get_input_details() + interpreter.get_output_details()
    }
    inputs = []
    for spec, b in zip(manifest.inputs, artifact.inputs, strict=True):
        binder = InputBinder(spec, b)
        inputs.append((index[b.tensor], frame[spec.name], binder.single))
    outputs = [
        (index[b.tensor], OutputBinder(spec, b))
        for spec, b in zip(manifest.outputs, artifact.outputs, strict=True)
    ]

    def call() -> Any:
        for place, values, quantize in inputs:
            interpreter.set_tensor(place, values if quantize is None else quantize(values))
        interpreter.invoke()
        return [unbind.row(interpreter.get_tensor(place)) for place, unbind in outputs]

    return call


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
