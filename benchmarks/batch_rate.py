"""Rows a second of `edge-agent infer --output X.parquet`, beside a bare interpreter loop.

    python benchmarks/batch_rate.py [--rows N] [--rounds N] [--jobs N]

The bare loop is one process that has the inputs in memory, sets, invokes and gets, and writes nothing: the
floor. The batch reads an .npz, checks, quantizes, runs, interprets, and writes Parquet, durably, part by
part. Both sides take turns; figures are medians over the rounds. "whole" is the command from start to end,
with its processes' starts; "in step" is without the seconds that a batch of one row takes. Needs the models
of the folder in EDGEFLEET_DATA (../shared/data).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402

from edge_agent.batch.run import Batch, run_batch  # noqa: E402
from edge_contracts.bundle import open_bundle  # noqa: E402

DATA = Path(os.environ.get("EDGEFLEET_DATA", ROOT.parent / "shared" / "data"))
MODELS = ("kws_dscnn_int8_ref", "vww_mobilenetv1_int8_ref", "ic_resnet8_int8_ref")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: no models at {DATA}; set EDGEFLEET_DATA")
        return
    print(f"{arguments.rows} rows, medians of {arguments.rounds} rounds; rows/s")
    jobs = sorted({1, arguments.jobs})
    heads = [f"{kind} {n} job{'s' * (n > 1)}" for n in jobs for kind in ("whole,", "in step,")]
    print(f"{'model':28} {'bare':>8} " + " ".join(f"{head:>16}" for head in heads) + f" {'of bare':>8}")
    for name in MODELS:
        model = (DATA / "models" / f"{name}.tflite").read_bytes()
        with tempfile.TemporaryDirectory() as scratch:
            measure(name, model, Path(scratch), arguments.rows, arguments.rounds, jobs)


def measure(name: str, model: bytes, folder: Path, rows: int, rounds: int, jobs: list[int]) -> None:
    """One line of the table."""
    bundle = agent_bundles.around(model)
    (folder / "model.bundle").write_bytes(bundle)
    (spec,) = open_bundle(bundle).manifest.inputs
    low, high = spec.value_range or (0.0, 1.0)
    x = np.random.default_rng(0).uniform(low, high, (rows, *spec.shape[1:])).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    np.savez(folder / "one.npz", x=x[:1])
    bare: list[float] = []
    whole: dict[int, list[float]] = {n: [] for n in jobs}
    start: dict[int, list[float]] = {n: [] for n in jobs}
    for _ in range(rounds):
        bare.append(bare_loop(model, x))
        for n in jobs:
            start[n].append(batch(folder, "one.npz", n))
            whole[n].append(batch(folder, "x.npz", n))
    floor = rows / statistics.median(bare)
    cells = []
    ratio = 0.0
    for n in jobs:
        seconds = statistics.median(whole[n])
        steady = statistics.median(w - s for w, s in zip(whole[n], start[n], strict=True))
        cells += [f"{rows / seconds:16.0f}", f"{rows / steady:16.0f}"]
        ratio = ratio or rows / steady / floor
    print(f"{name:28} {floor:8.0f} " + " ".join(cells) + f" {ratio:8.2f}", flush=True)


def bare_loop(model: bytes, x: NDArray[Any]) -> float:
    """Seconds of one pass with nothing but LiteRT, codes made beforehand."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (result, *_) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero_point = entry["quantization"]
    codes = np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(entry["dtype"])
    begin = perf_counter()
    for row in range(len(codes)):
        interpreter.set_tensor(entry["index"], codes[row : row + 1])
        interpreter.invoke()
        interpreter.get_tensor(result["index"])
    return perf_counter() - begin


def batch(folder: Path, data: str, jobs: int) -> float:
    """Seconds of one batch, processes and all."""
    begin = perf_counter()
    asked = Batch(folder / "model.bundle", folder / data, folder / "out.parquet", None, jobs=jobs)
    run_batch(asked, lambda rows, resumed: lambda count: None)
    return perf_counter() - begin


if __name__ == "__main__":
    main()
