"""What a conversion between float and int8 costs inside a network, on LiteRT: `time_model.py` counts with it.

    python benchmarks/conversion_cost.py [--rounds N] [--cpu cortex-a76]

Three equal 1 x 1 convolutions, the middle one in float and in int8, less what the same layer alone takes
longer in float than in int8: two conversions are left. Medians of the differences of interleaved rounds.
Layers, and not moves, for the runtime elides those. Beyond some 16,000 elements the layers themselves take so
long that their noise hides the conversions.

`--cpu cortex-a76` counts instructions in emulation (needs the userland of `make arm`), free of noise, and
tells the two ways apart: the first layer in float needs codes behind it, the last one floats before it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe
from edge_convert.candidates import Candidate
from edge_convert.device import arm
from edge_convert.device.arm import Userland
from edge_convert.errors import EmulationMissing
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

RULES = rules_for(load_profile("x86-cpu"))
RECIPE = recipe.load("wi8_ai8_minmax")
SHAPES = ((4, 64), (8, 64), (11, 64), (16, 32), (16, 64))  # pixels on a side, channels
LAYER = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1, "activation": "relu"}
LOCAL = Path(__file__).parents[1] / ".arm"
COUNTED_HEAD = (
    "elements",
    "int8 kinst",
    "first in float",
    "last in float",
    "all in float",
    "to codes, inst per element",
    "to float",
)
HEAD = ("elements", "int8 us", "middle in float us", "two conversions us", "ns per element")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cpu", choices=["x86-64", "cortex-a76"], default="x86-64")
    options = parser.parse_args()
    rounds = options.rounds
    threadpool_limits(1)
    if options.cpu != "x86-64":
        try:
            userland = arm.find(LOCAL if LOCAL.is_dir() else None)
        except EmulationMissing as error:
            print(f"not counted: {error}")
            return
        print(table(COUNTED_HEAD, [_counted(side, channels, userland) for side, channels in SHAPES]))
        return
    print(table(HEAD, [_row(side, channels, rounds) for side, channels in SHAPES]))


def _row(side: int, channels: int, rounds: int) -> tuple[str, ...]:
    three, alone = _layers(side, channels, 3), _layers(side, channels, 1)
    x = np.random.RandomState(0).standard_normal((8, side, side, channels)).astype(np.float32)
    forms = {
        "int8": _made(three, x),
        "mixed": _made(three, x, frozenset({"layer1"})),
        "alone int8": _made(alone, x),
        "alone float": candidates.float_form(alone, "tflite"),
    }
    calls = {n: f.model.engine.repeat(f.model.encoded({"x": x[:1]})) for n, f in forms.items()}
    times = interleaved_ms(calls, rounds)
    lost = zip(*(times[name] for name in ("mixed", "int8", "alone float", "alone int8")), strict=True)
    both = 1000 * median(mixed - int8 - (slow - fast) for mixed, int8, slow, fast in lost)
    elements = side * side * channels
    measured = (1000 * median(times["int8"]), 1000 * median(times["mixed"]), both)
    return (str(elements), *(f"{us:.2f}" for us in measured), f"{1000 * both / elements / 2:.3f}")


def _counted(side: int, channels: int, userland: Userland) -> tuple[str, ...]:
    """Instructions of the two conversions: what a layer in float takes longer itself is taken off."""
    three = _layers(side, channels, 3)
    x = np.random.RandomState(0).standard_normal((8, side, side, channels)).astype(np.float32)
    forms = [
        _made(three, x),
        _made(three, x, frozenset({"layer0"})),
        _made(three, x, frozenset({"layer2"})),
        candidates.float_form(three, "tflite"),
    ]
    jobs = [(f.files[".tflite"], f.model.encoded({"x": x[:1]})) for f in forms]
    int8, first, last, whole = arm.instructions_of_each(jobs, arm.CPUS[0], userland)
    longer = (whole - int8) / 3
    elements = side * side * channels
    ways = [(found - int8 - longer) / elements for found in (first, last)]
    return (
        str(elements),
        *(f"{n / 1000:.1f}" for n in (int8, first, last, whole)),
        *(f"{w:.2f}" for w in ways),
    )


def _made(graph: Graph, x: Array, kept: frozenset[str] = frozenset()) -> Candidate:
    quantization = Quantizer(graph, {"x": x}).quantize(RECIPE, RULES, kept)
    return candidates.written(graph, "tflite", RECIPE, quantization, kept)


def _layers(side: int, channels: int, count: int) -> Graph:
    """Equal convolutions one after the other."""
    rng = np.random.RandomState(1)
    shape = (1, side, side, channels)
    tensors = {"t0": Tensor("t0", shape, "float32")}
    nodes = []
    for i in range(count):
        weights = rng.standard_normal((channels, 1, 1, channels)) / np.sqrt(channels)
        tensors |= {f"w{i}": constant(f"w{i}", weights.astype(np.float32))}
        tensors |= {f"t{i + 1}": Tensor(f"t{i + 1}", shape, "float32")}
        nodes.append(Node(Op.CONV2D, f"layer{i}", (f"t{i}", f"w{i}"), (f"t{i + 1}",), LAYER))
    ports = ((Port("x", "t0", shape),), (Port("y", f"t{count}", shape),))
    return Graph("layers", *ports, tuple(nodes), tensors)


if __name__ == "__main__":
    main()
