"""int8 operators that LiteRT runs slowly on a CPU: as one operator, and as we write them.

    python benchmarks/int8_operators.py [--rounds N]

Models of one operator on 1 x 48 x 48 x 64 elements, one thread, interleaved rounds; ratios are medians
over pairs of neighbouring rounds. Why they are written so: `emitters/tflite_split.py`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import median

import numpy as np

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.emitters.tflite import emit
from edge_convert.engine import LiteRtEngine
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect
from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

SHAPE = (1, 48, 48, 64)
HEAD = ("operator", "float ms", "int8 one ms", "int8 ours ms", "one / float", "ours / float", "one / ours")
SLOPES = np.linspace(-0.2, 0.6, SHAPE[-1], dtype=np.float32).reshape(1, 1, -1)


def model(op: Op) -> Graph:
    """A graph of one operator."""
    tensors = [Tensor("x", SHAPE), Tensor("y", SHAPE)]
    reads: tuple[str, ...] = ("x",)
    if op is Op.PRELU:
        tensors.append(constant("slopes", SLOPES))
        reads = ("x", "slopes")
    ports = {name: Port(name, name, SHAPE, layout="NHWC") for name in ("x", "y")}
    node = Node(op, "node", reads, ("y",))
    return Graph(str(op), (ports["x"],), (ports["y"],), (node,), {t.name: t for t in tensors})


def timed(op: Op, rounds: int) -> tuple[str, ...]:
    """One row of the table."""
    graph = model(op)
    x: Array = np.random.default_rng(1).normal(0, 2, (4, *SHAPE[1:])).astype(np.float32)
    rules = rules_for(load_profile("x86-cpu"))
    ours = choose(graph, collect(graph, {"x": x}), recipe.load("wi8_ai8_minmax"), rules)
    files = {
        "float": emit(graph),
        "one": emit(graph, replace(ours, whole=frozenset({"node"}))),
        "ours": emit(graph, ours),
    }
    calls = {}
    for name, content in files.items():
        engine = LiteRtEngine(content)
        port = engine.inputs[0]
        sample = x[:1] if name == "float" else np.random.default_rng(1).integers(-128, 128, SHAPE, np.int8)
        calls[name] = engine.repeat({port.name: sample})
    times = interleaved_ms(calls, rounds)

    def ratio(a: str, b: str) -> str:
        return f"{median(p / q for p, q in zip(times[a], times[b], strict=True)):.2f}"

    return (
        str(op),
        *(f"{median(times[name]):.3f}" for name in ("float", "one", "ours")),
        *(ratio(a, b) for a, b in (("one", "float"), ("ours", "float"), ("one", "ours"))),
    )


def main() -> None:
    """Time every operator and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    rows = [timed(op, rounds) for op in (Op.RELU, Op.RELU6, Op.PRELU, Op.HARD_SWISH)]
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
