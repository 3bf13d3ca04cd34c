"""What a conversion between float and int8 costs inside a network, on LiteRT: `time_model.py` counts with it.

    python benchmarks/conversion_cost.py [--rounds N]

Three equal 1 x 1 convolutions, the middle one in float and in int8, less what the same layer alone takes
longer in float than in int8: two conversions are left. Medians of the differences of interleaved rounds.
Layers, and not moves, for the runtime elides those. Beyond some 16,000 elements the layers themselves take so
long that their noise hides the conversions.
"""

from __future__ import annotations

import argparse
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe
from edge_convert.candidates import Candidate
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

RULES = rules_for(load_profile("x86-cpu"))
RECIPE = recipe.load("wi8_ai8_minmax")
SHAPES = ((4, 64), (8, 64), (11, 64), (16, 32), (16, 64))  # pixels on a side, channels
LAYER = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1, "activation": "relu"}
HEAD = ("elements", "int8 us", "middle in float us", "two conversions us", "ns per element")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    threadpool_limits(1)
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
