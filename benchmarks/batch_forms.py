"""Whether a runtime answers several samples faster at once than one after another.

    python benchmarks/batch_forms.py [--rounds N]

For each model and runtime: microseconds of one sample when samples are run one by one in the artifact's own
shape; and when the file is resized to take n at once (LiteRT: resize_tensor_input; OpenVINO: reshape), one
thread, the copies in and out included. "faster" is the median over rounds of one by one divided by at once:
above 1 the batch wins. "same" is whether every output is equal bit for bit; "off by" the largest difference
in the output's own codes or values. "MB more" is what the process grew by when the form for 8 samples was
opened beside the one for 1. The last table is the agent itself: one request of 64 samples, one by one and as
it is.
Needs the models of the folder in EDGEFLEET_DATA (../shared/data).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino
import psutil
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_agent.inference.session import Session  # noqa: E402
from edge_agent.runtimes.choice import Choice, Option  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402

DATA = Path(os.environ.get("EDGEFLEET_DATA", ROOT.parent / "shared" / "data"))
MODELS = (
    "kws_dscnn_int8_ref",
    "kws_dscnn_float32",
    "ic_resnet8_int8_ref",
    "ic_resnet8_float32",
    "vww_mobilenetv1_int8_ref",
    "vww_mobilenetv1_float32",
    "ad_autoencoder_int8_ref",
    "mobilenet_v1_1.0_224_quant",
)
BATCHES = (2, 4, 8, 16)
ROUND_S = 0.05
Run = Callable[[NDArray[Any]], NDArray[Any]]


class NotResized(Exception):
    """The file takes one sample only."""


def litert(path: Path, batch: int) -> tuple[Run, tuple[int, ...], Any]:
    """A file open for so many samples at once; how to run it, the shape of a sample, its dtype."""
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    (given,) = interpreter.get_input_details()
    sample = tuple(int(size) for size in given["shape"][1:])
    try:
        if batch != 1:
            interpreter.resize_tensor_input(given["index"], [batch, *sample])
        interpreter.allocate_tensors()
        answer = interpreter.get_output_details()[0]
        interpreter.set_tensor(given["index"], np.zeros((batch, *sample), given["dtype"]))
        interpreter.invoke()
        if interpreter.get_tensor(answer["index"]).shape[0] != batch:
            raise NotResized("the answers are of one sample")
    except (RuntimeError, ValueError) as error:
        raise NotResized(" ".join(str(error).split())[:80]) from None

    def run(values: NDArray[Any]) -> NDArray[Any]:
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(answer["index"]))

    return run, sample, given["dtype"]


def through_openvino(path: Path, batch: int) -> tuple[Run, tuple[int, ...], Any]:
    """The same with OpenVINO's CPU device."""
    core = openvino.Core()
    model = core.read_model(path)
    shape = model.input(0).partial_shape
    sample = tuple(shape[axis].get_length() for axis in range(1, len(shape)))
    try:
        model.reshape([batch, *sample])
        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        compiled = core.compile_model(model, "CPU", options)
        if compiled.output(0).shape[0] != batch:
            raise NotResized("the answers are of one sample")
    except RuntimeError as error:
        raise NotResized(" ".join(str(error).split())[:80]) from None
    request = compiled.create_infer_request()

    def run(values: NDArray[Any]) -> NDArray[Any]:
        request.infer({0: values})
        return np.array(request.get_output_tensor(0).data)

    return run, sample, compiled.input(0).element_type.to_dtype()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only-agent", action="store_true", help="The last table only.")
    rounds = parser.parse_args().rounds
    if parser.parse_args().only_agent:
        return agent(rounds)
    print(f"one thread, medians of {rounds} rounds that take turns")
    print(f"{'model':27} {'runtime':9} {'at once':>7} {'us one':>8} {'us batch':>8} {'faster':>7} ", end="")
    print(f"{'same':>5} {'off by':>9} {'MB more':>8}")
    for name in MODELS:
        path = DATA / "models" / f"{name}.tflite"
        if not path.exists():
            continue
        for runtime, opened in (("litert", litert), ("openvino", through_openvino)):
            measure(name, path, runtime, opened, rounds)
    agent(rounds)


def agent(rounds: int) -> None:
    """The last table."""
    print()
    head = f"{'one request of 64 samples':27} {'runtime':9} {'us one':>8} {'us agent':>8} {'faster':>7}"
    print(f"{head} {'same':>5} {'opened ms':>9}")
    for name in MODELS:
        path = DATA / "models" / f"{name}.tflite"
        if not path.exists():
            continue
        bundle = open_bundle(agent_bundles.around(path.read_bytes()))
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "bundle"
            bundle.extract(place)
            for runtime in ("litert", "openvino"):
                option = Option(bundle.manifest.artifacts[0].id, runtime, "CPU")
                session = Session.open(place, bundle.manifest, Choice(option, ""))
                asked(f"{name:27} {runtime:9}", session, rounds)
                session.close()


def asked(title: str, session: Session, rounds: int) -> None:
    """One line of the last table."""
    (spec,) = session.manifest.inputs
    low, high = spec.value_range or (0.0, 1.0)
    x = np.random.default_rng(0).uniform(low, high, (64, *spec.shape[1:])).astype(np.float32)
    given = {spec.name: x}
    alone = session.infer_apart(given).outputs
    began = perf_counter()
    several = session.infer(given).outputs
    opened_ms = (perf_counter() - began) * 1e3
    same = all(alone[key].tobytes() == several[key].tobytes() for key in alone)
    apart, joined = [], []
    for _ in range(rounds):
        apart.append(timed(partial(session.infer_apart, given), 64))
        joined.append(timed(partial(session.infer, given), 64))
    ratio = statistics.median(a / j for a, j in zip(apart, joined, strict=True))
    print(
        f"{title} {statistics.median(apart):8.1f} {statistics.median(joined):8.1f} {ratio:7.2f} "
        f"{'yes' if same else 'no':>5} {opened_ms:9.1f}",
        flush=True,
    )


def measure(name: str, path: Path, runtime: str, opened: Any, rounds: int) -> None:
    """The lines of one model in one runtime."""
    one, sample, dtype = opened(path, 1)
    random = np.random.default_rng(5)
    integer = np.dtype(dtype).kind in "iu"
    most = max(BATCHES)
    values = (
        random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (most, *sample), dtype, endpoint=True)
        if integer
        else random.uniform(-1, 1, (most, *sample)).astype(dtype)
    )
    alone = np.concatenate([one(values[row : row + 1]) for row in range(most)])
    for batch in BATCHES:
        before = psutil.Process().memory_info().rss
        try:
            many, _, _ = opened(path, batch)
        except NotResized as error:
            print(f"{name:27} {runtime:9} {batch:7} {'not resized: ' + str(error)}")
            continue
        together = many(values[:batch])
        grown = (psutil.Process().memory_info().rss - before) / 1e6 if batch == 8 else None
        off = float(np.abs(together.astype(np.float64) - alone[:batch].astype(np.float64)).max())
        same = together.tobytes() == alone[:batch].tobytes()
        apart, joined = [], []
        for _ in range(rounds):
            apart.append(timed(partial(one_by_one, one, values[:batch]), batch))
            joined.append(timed(partial(many, values[:batch]), batch))
        ratio = statistics.median(a / j for a, j in zip(apart, joined, strict=True))
        shown = "" if grown is None else f"{grown:8.1f}"
        print(
            f"{name:27} {runtime:9} {batch:7} {statistics.median(apart):8.1f} "
            f"{statistics.median(joined):8.1f} {ratio:7.2f} {'yes' if same else 'no':>5} {off:9.2g} {shown}",
            flush=True,
        )


def one_by_one(run: Run, values: NDArray[Any]) -> None:
    """Each sample for itself."""
    for row in range(len(values)):
        run(values[row : row + 1])


def timed(work: Callable[[], Any], samples: int) -> float:
    """Microseconds of a sample, over a stretch of time."""
    count, began = 0, perf_counter()
    while (passed := perf_counter() - began) < ROUND_S:
        work()
        count += 1
    return passed / (count * samples) * 1e6


if __name__ == "__main__":
    main()
