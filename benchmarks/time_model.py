"""Measured and predicted time of single operators on LiteRT, and the constants of the time model.

    python benchmarks/time_model.py [--cpu NAME] [--rounds N] [--openings N] [--fit] [--save F] [--load F]

Each case is one operator on one shape, timed as one branch and as five beside each other that read the
same input; a fourth of the difference is what one more operator costs, without the interpreter's share.
`--fit` prints the constants for `edge_convert/time_model.py` that come of these measurements. Every third
case is kept out of the fit and judges it. `--cpu cortex-a76` counts instructions in emulation instead (needs
the userland of `make arm`) and takes four to a nanosecond: only ratios of such figures mean something.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from edge_contracts.profile import load_profile
from edge_convert import recipe, time_model
from edge_convert.device import arm
from edge_convert.device.arm import Userland
from edge_convert.emitters.tflite import emit
from edge_convert.engine import LiteRtEngine
from edge_convert.errors import EmulationMissing
from edge_convert.graph import Graph, Node, Op, Port, Tensor, constant
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect
from edge_convert.shapes import result
from edge_convert.terminal import table
from edge_convert.time_model import Cpu
from edge_convert.timing import interleaved_ms
from edge_convert.validity import validate

Timed = Literal["int8", "float32"]
Known = Mapping[str, Mapping[str, float]]
Constants = Mapping[str, Mapping[str, tuple[float, ...]]]
PRECISIONS: tuple[Timed, ...] = ("int8", "float32")
LOCAL = Path(__file__).parents[1] / ".arm"
KEPT_OUT = 3  # every so manieth case is not fitted to
HEAD = ("operator", "int8 us", "predicted", "float us", "predicted", "")
ERROR_HEAD = ("precision", "kernel", "cases kept out", "median error", "9 of 10 below")
BRANCHES = 5
# Files counted in one emulated process; instructions of a microsecond
TOGETHER, PER_US = 16, 4000.0


@dataclass(frozen=True)
class Case:
    """One operator on one shape: kernel and stride of a convolution, channels of the result."""

    op: Op
    shape: tuple[int, ...]
    out: int = 0
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    @property
    def label(self) -> str:
        """As the table has it."""
        shape = "x".join(map(str, self.shape[1:]))
        if self.op in (Op.CONV2D, Op.DEPTHWISE_CONV2D):
            kernel = "x".join(map(str, self.kernel))
            return f"{self.op} {kernel}/{self.stride} {shape} -> {self.out}"
        return f"{self.op} {shape}" + (f" -> {self.out}" if self.out else "")


def cases() -> Iterator[Case]:
    """Shapes of small picture and sound models, and of the widths that pruning can give them."""
    conv, depthwise = Op.CONV2D, Op.DEPTHWISE_CONV2D
    for side, wide in ((48, 48), (24, 24), (25, 5), (12, 12), (6, 6), (3, 3)):
        for read, write in ((8, 16), (16, 32), (32, 32), (24, 40), (48, 64), (64, 64), (64, 128), (128, 96)):
            if side * wide * read * write < 3_000_000:
                yield Case(conv, (1, side, wide, read), write)
    for read, write in ((256, 256), (256, 128), (200, 120), (512, 512)):
        yield Case(conv, (1, 3, 3, read), write)
        yield Case(conv, (1, 7, 7, read), write)
    for side, read, write in (
        (32, 3, 16), (32, 16, 16), (32, 16, 8), (32, 8, 8), (32, 8, 16), (32, 24, 16), (32, 32, 32),
        (16, 16, 32), (16, 32, 32), (16, 24, 24), (16, 16, 16), (16, 8, 32), (8, 64, 64), (8, 32, 64),
        (8, 48, 48), (8, 40, 64), (8, 64, 32), (96, 3, 8), (96, 3, 16), (28, 1, 16), (14, 128, 128),
    ):  # fmt: skip
        yield Case(conv, (1, side, side, read), write, (3, 3))
    for side, read, write in ((96, 3, 8), (96, 3, 32), (32, 16, 32), (16, 32, 64), (16, 16, 48), (64, 8, 16)):
        yield Case(conv, (1, side, side, read), write, (3, 3), 2)
    for side, read, write in ((32, 16, 32), (16, 32, 64), (24, 24, 48)):
        yield Case(conv, (1, side, side, read), write, (1, 1), 2)
    yield Case(conv, (1, 49, 10, 1), 64, (10, 4), 2)
    yield Case(conv, (1, 49, 10, 1), 48, (10, 4), 2)
    yield Case(conv, (1, 49, 10, 1), 32, (10, 4), 2)
    yield Case(conv, (1, 49, 5, 2), 64, (10, 3), 2)
    yield Case(conv, (1, 49, 1, 10), 320, (10, 1), 2)
    yield Case(conv, (1, 49, 1, 10), 160, (10, 1), 2)
    yield Case(conv, (1, 48, 24, 12), 16, (3, 2))
    yield Case(conv, (1, 32, 8, 12), 64, (3, 3))
    yield Case(conv, (1, 32, 16, 6), 32, (3, 3))
    yield Case(conv, (1, 32, 32, 3), 16, (5, 5))
    for side, wide in ((48, 48), (24, 24), (25, 5), (12, 12), (6, 6), (3, 3)):
        for channels in (8, 16, 24, 32, 40, 48, 64, 96, 128, 256):
            if side * wide * channels <= 48 * 48 * 24 and side * wide * channels >= 1000:
                yield Case(depthwise, (1, side, wide, channels), channels, (3, 3))
    for side, channels in ((48, 16), (24, 32), (24, 24), (12, 64), (6, 128), (96, 8)):
        yield Case(depthwise, (1, side, side, channels), channels, (3, 3), 2)
    for side, channels in ((24, 32), (12, 48), (12, 64)):
        yield Case(depthwise, (1, side, side, channels), channels, (5, 5))
    for op in (Op.ADD, Op.MUL, Op.RELU, Op.SIGMOID, Op.TANH, Op.HARD_SWISH, Op.MAXIMUM, Op.RESHAPE):
        for shape in ((1, 32, 32, 16), (1, 16, 16, 32), (1, 8, 8, 64), (1, 48, 48, 32)):
            yield Case(op, shape)
    for op in (Op.MEAN, Op.MAX_POOL2D, Op.AVERAGE_POOL2D, Op.PAD, Op.CONCAT):
        for shape in ((1, 8, 8, 64), (1, 16, 16, 32), (1, 3, 3, 256), (1, 25, 5, 64), (1, 24, 24, 64)):
            yield Case(op, shape)
    for read, write in ((64, 10), (256, 2), (128, 128), (640, 128), (128, 640), (8, 128), (512, 512)):
        yield Case(Op.DENSE, (1, read), write)
    for width in (2, 10, 100, 1000):
        yield Case(Op.SOFTMAX, (1, width))


def model(case: Case, branches: int) -> Graph:
    """Branches of one operator each, with weights of their own."""
    rng = np.random.default_rng(0)
    tensors = {"x": Tensor("x", case.shape)}
    nodes: list[Node] = []
    for index in range(branches):
        inputs = [tensors["x"]]
        for name, values in _constants(case, rng).items():
            made = constant(f"{name}{index}", values.astype(np.float32))
            tensors[made.name] = made
            inputs.append(made)
        if case.op is Op.CONCAT:
            inputs.append(tensors["x"])
        node, tensor = result(case.op, f"node{index}", inputs, _attrs(case), f"y{index}")
        nodes.append(node)
        tensors[tensor.name] = tensor
    outputs = tuple(Port(n.output, n.output, tensors[n.output].shape) for n in nodes)
    return validate(Graph(case.label, (Port("x", "x", case.shape),), outputs, tuple(nodes), tensors))


def _constants(case: Case, rng: np.random.Generator) -> dict[str, np.ndarray]:
    read = case.shape[-1]
    shapes = {
        Op.CONV2D: (case.out, *case.kernel, read),
        Op.DEPTHWISE_CONV2D: (1, *case.kernel, case.out),
        Op.DENSE: (case.out, read),
    }
    if case.op in shapes:
        shape = shapes[case.op]
        return {"w": rng.normal(0, 1 / np.sqrt(read), shape), "b": rng.normal(0, 0.1, case.out)}
    if case.op in (Op.MUL, Op.ADD, Op.MAXIMUM):
        return {"k": rng.normal(0, 1, case.shape)}
    return {}


def _attrs(case: Case) -> dict[str, object]:
    (kh, kw), stride = case.kernel, case.stride
    pads = ((kh - 1) // 2, kh // 2, (kw - 1) // 2, kw // 2)
    windowed: dict[str, object] = {
        "strides": (stride, stride),
        "pads": pads,
        "activation": "relu",
        "dilations": (1, 1),
    }
    by_op: dict[Op, dict[str, object]] = {
        Op.CONV2D: windowed | {"groups": 1},
        Op.DEPTHWISE_CONV2D: windowed,
        Op.DENSE: {"activation": "none"},
        Op.ADD: {"activation": "relu"},
        Op.MUL: {"activation": "none"},
        Op.RESHAPE: {"shape": (1, int(np.prod(case.shape)))},
        Op.MEAN: {"axes": (1, 2), "keepdims": True},
        Op.MAX_POOL2D: {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)},
        Op.AVERAGE_POOL2D: {
            "kernel": (2, 2),
            "strides": (2, 2),
            "pads": (0, 0, 0, 0),
            "count_include_pad": False,
        },
        Op.PAD: {"paddings": ((0, 0), (1, 1), (1, 1), (0, 0)), "value": 0.0},
        Op.CONCAT: {"axis": len(case.shape) - 1},
        Op.SOFTMAX: {"beta": 1.0},
    }
    return by_op.get(case.op, {})


def measured(every: list[Case], openings: int, rounds: int) -> dict[Timed, dict[str, float]]:
    """What one more of each operator costs, microseconds: from the fastest rounds of several openings.

    Neighbours and the place of an opened file in memory can only add. All cases are gone through once for
    each opening, so that a busy minute falls on one opening of many cases, not on all of one.
    """
    fastest: dict[tuple[Timed, str, int], float] = {}
    for _ in range(openings):
        for precision in PRECISIONS:
            for case in every:
                for branches, ms in _fastest_ms(case, precision, rounds).items():
                    key = precision, case.label, branches
                    fastest[key] = min(ms, fastest.get(key, ms))

    def one_more(precision: Timed, label: str) -> float:
        least = (fastest[precision, label, branches] for branches in (1, BRANCHES))
        return 1000 * (-next(least) + next(least)) / (BRANCHES - 1)

    return {p: {case.label: one_more(p, case.label) for case in every} for p in PRECISIONS}


def _fastest_ms(case: Case, precision: Timed, rounds: int) -> dict[int, float]:
    calls = {}
    for branches in (1, BRANCHES):
        content, feeds = _file(case, precision, branches)
        calls[str(branches)] = LiteRtEngine(content).repeat(feeds)
    return {int(name): min(ms) for name, ms in interleaved_ms(calls, rounds).items()}


def _file(case: Case, precision: Timed, branches: int) -> tuple[bytes, dict[str, np.ndarray]]:
    """A TFLite file and what to feed it."""
    graph = model(case, branches)
    quantization = None
    if precision == "int8":
        x = np.random.default_rng(1).normal(0, 1, (4, *case.shape[1:])).astype(np.float32)
        rules = replace(rules_for(load_profile("x86-cpu")), integer_io=True)
        quantization = choose(graph, collect(graph, {"x": x}), recipe.load("wi8_ai8_minmax"), rules)
    content = emit(graph, quantization)
    sample = np.random.default_rng(2).integers(-100, 100, case.shape)
    return content, {"x": sample.astype(np.int8 if quantization else np.float32)}


def counted(every: list[Case], userland: Userland) -> dict[Timed, dict[str, float]]:
    """The same as instructions on an emulated Cortex-A76, at four to a nanosecond."""
    found: dict[Timed, dict[str, float]] = {}
    for precision in PRECISIONS:
        instructions: list[int] = []
        for start in range(0, len(every), TOGETHER):
            jobs = []
            for case in every[start : start + TOGETHER]:
                for branches in (1, BRANCHES):
                    jobs.append(_file(case, precision, branches))
            instructions += arm.instructions_of_each(jobs, arm.CPUS[0], userland)
        pairs = zip(instructions[::2], instructions[1::2], strict=True)
        found[precision] = {
            case.label: (many - one) / (BRANCHES - 1) / PER_US
            for case, (one, many) in zip(every, pairs, strict=True)
        }
    return found


def steady_heap() -> None:
    """Keep glibc from giving memory back to the system and taking it again in each inference.

    Where a model's scratch memory happens to end the heap, that costs 8 or 16 us on this host whatever
    the operator does (seen: the same file 0.9 or 4.9 us per branch). It is no property of an operator.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, value in ((-1, 2**31 - 1), (-3, 2**30), (-2, 2**26)):  # trim, mmap, top pad
            libc.mallopt(parameter, value)


def fitted(
    seen: Mapping[str, float], precision: Timed, every: list[Case], cpu: Cpu
) -> dict[str, tuple[float, ...]]:
    """Constants by kind, none negative, with the least sum of relative errors' sizes.

    Sizes and not squares: what a neighbour disturbed must not pull. Solved as a linear programme.
    """
    rows: dict[str, list[tuple[tuple[float, ...], float]]] = {}
    for index, case in enumerate(every):
        if index % KEPT_OUT == 0:
            continue
        node, shapes = _only_node(case)
        kind = time_model.kind_of(node, shapes)
        counts = time_model.work(node, shapes, precision == "int8", cpu)
        rows.setdefault(kind, []).append((counts, max(1000 * seen[case.label], 1.0)))
    return {kind: _least_sizes(pairs) for kind, pairs in rows.items()}


def _least_sizes(pairs: list[tuple[tuple[float, ...], float]]) -> tuple[float, ...]:
    counts = np.array([c for c, _ in pairs]) / np.array([[ns] for _, ns in pairs])
    scale = counts.max(axis=0) + 1e-30
    many, unknowns = counts.shape
    eye = np.eye(many)
    solved = linprog(
        np.concatenate([np.zeros(unknowns), np.ones(many)]),
        A_ub=np.block([[counts / scale, -eye], [-counts / scale, -eye]]),
        b_ub=np.concatenate([np.ones(many), -np.ones(many)]),
        bounds=[(0, None)] * (unknowns + many),
    )
    return tuple(float(f"{value:.4g}") for value in solved.x[:unknowns] / scale)


def _only_node(case: Case) -> tuple[Node, time_model.Shapes]:
    graph = model(case, 1)
    return graph.nodes[0], time_model.shapes_of(graph)


def main() -> None:
    """Measure, fit if asked to, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--openings", type=int, default=8)
    parser.add_argument("--fit", action="store_true", help="print constants fitted to these measurements")
    parser.add_argument("--save", type=Path, help="write the measurements to this file")
    parser.add_argument("--load", type=Path, help="take the measurements from this file")
    parser.add_argument("--cpu", choices=list(time_model.CONSTANTS), default="x86-64")
    options = parser.parse_args()
    steady_heap()
    every = list(cases())
    if options.load:
        known = json.loads(options.load.read_text())
    elif options.cpu != "x86-64":
        try:
            known = counted(every, arm.find(LOCAL if LOCAL.is_dir() else None))
        except EmulationMissing as error:
            print(f"not counted: {error}")
            return
    else:
        known = measured(every, options.openings, options.rounds)
    if options.save:
        options.save.write_text(json.dumps(known, indent=1))
    constants = time_model.CONSTANTS[options.cpu]
    if options.fit:
        constants = {p: fitted(known[p], p, every, options.cpu) for p in PRECISIONS}
        print(f'    "{options.cpu}": {{')
        for precision, kinds in constants.items():
            print(f'        "{precision}": {{')
            for kind, values in kinds.items():
                print(f'            "{kind}": {values},')
            print("        },")
        print("    },\n")
    print(table(HEAD, _rows(every, known, constants, options.cpu)))
    print()
    print(table(ERROR_HEAD, _errors(every, known, constants, options.cpu)))


def _rows(every: list[Case], known: Known, constants: Constants, cpu: Cpu) -> list[tuple[str, ...]]:
    rows = []
    for index, case in enumerate(every):
        figures = [
            f"{value:.2f}"
            for p in PRECISIONS
            for value in (known[p][case.label], _predicted(case, p, constants, cpu))
        ]
        rows.append((case.label, *figures, "kept out" if index % KEPT_OUT == 0 else ""))
    return rows


def _errors(every: list[Case], known: Known, constants: Constants, cpu: Cpu) -> list[tuple[str, ...]]:
    rows = []
    for precision in PRECISIONS:
        by_kind: dict[str, list[float]] = {}
        for case in every[::KEPT_OUT]:
            seen = max(known[precision][case.label], 0.01)
            error = abs(_predicted(case, precision, constants, cpu) / seen - 1)
            by_kind.setdefault(time_model.kind_of(*_only_node(case)), []).append(error)
        by_kind["all"] = [error for errors in by_kind.values() for error in errors]
        for kind, errors in by_kind.items():
            tenths = np.quantile(errors, (0.5, 0.9))
            rows.append((precision, kind, str(len(errors)), *(f"{100 * e:.0f}%" for e in tenths)))
    return rows


def _predicted(case: Case, precision: Timed, constants: Constants, cpu: Cpu) -> float:
    node, shapes = _only_node(case)
    counts = time_model.work(node, shapes, precision == "int8", cpu)
    by_kind = constants[precision][time_model.kind_of(node, shapes)]
    return sum(a * b for a, b in zip(counts, by_kind, strict=True)) / 1000


if __name__ == "__main__":
    main()
