"""How much memory the tensors of a model take at once, when those that never meet share it.

Greedy by size for offset calculation: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
Net Inference", arXiv:2001.03288, algorithm 3. The largest tensor is placed first; each next one goes
into the smallest gap that is large enough among the tensors that live at the same time, or behind them.
TensorFlow Lite's arena does the same (lite/arena_planner.cc, simple_memory_arena.cc), except that what
lives from start to end goes before everything; so does this, and the plan is its arena, byte for byte,
less what kernels ask for as scratch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_convert.graph import Graph
from edge_convert.importers.tflite_file import ModelFile

ALIGNMENT = 64  # kDefaultTensorAlignment of TensorFlow Lite
# lite/util.h: bytes of one element, by the file's name of its type
_ELEMENT_BYTES = {
    "BOOL": 1,
    "INT8": 1,
    "UINT8": 1,
    "INT16": 2,
    "UINT16": 2,
    "FLOAT16": 2,
    "BFLOAT16": 2,
    "FLOAT32": 4,
    "INT32": 4,
    "UINT32": 4,
    "FLOAT64": 8,
    "INT64": 8,
    "UINT64": 8,
    "COMPLEX64": 8,
}

# Kernels that may write over one of so many first operands: seen in the addresses of LiteRT 2.3's tensors
IN_PLACE = {
    "ADD": 2,
    "SUB": 2,
    "MUL": 2,
    "DIV": 2,
    "SOFTMAX": 1,
    "RESHAPE": 1,
    "EXPAND_DIMS": 1,
    "SQUEEZE": 1,
}
_UNCHANGED = frozenset({"RESHAPE", "EXPAND_DIMS", "SQUEEZE"})  # then others may go on reading the operand


@dataclass(frozen=True)
class Usage:
    """A tensor and when it is needed.

    Args:
        first, last: Positions of the operators that write it and that read it last, both included.
    """

    tensor: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Usage) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Where each tensor lies.

    Args:
        offsets: Bytes from the start of the arena.
        arena_bytes: What the arena takes: its highest end.
    """

    offsets: Mapping[str, int]
    arena_bytes: int


def plan(usages: Sequence[Usage], alignment: int = ALIGNMENT) -> Plan:
    """Place tensors.

    Args:
        usages: One for each tensor; equal sizes are placed in the order of their first use.
        alignment: Every offset is a multiple of it.
    """
    end = max((u.last for u in usages), default=0)
    whole = [u for u in usages if u.first == 0 and u.last == end]
    rest = [u for u in usages if not (u.first == 0 and u.last == end)]
    order = [*whole, *sorted(rest, key=lambda u: (-u.bytes, u.first))]
    placed: list[tuple[int, Usage]] = []  # by offset
    for usage in order:
        offset = _best_gap(usage, placed, alignment)
        placed.append((offset, usage))
        placed.sort(key=lambda entry: entry[0])
    return Plan(
        {usage.tensor: offset for offset, usage in placed},
        max((offset + usage.bytes for offset, usage in placed), default=0),
    )


def _best_gap(usage: Usage, placed: Sequence[tuple[int, Usage]], alignment: int) -> int:
    """Start of the smallest gap that holds the tensor, among those placed that it meets."""
    best: int | None = None
    smallest = 0
    end = 0
    for offset, other in placed:
        if not usage.meets(other):
            continue
        start = _aligned(end, alignment)
        gap = offset - start
        if gap >= usage.bytes and (best is None or gap < smallest):
            best, smallest = start, gap
        end = max(end, offset + other.bytes)
    return _aligned(end, alignment) if best is None else best


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def usages_of_graph(graph: Graph, bytes_per_element: int) -> list[Usage]:
    """The computed and fed tensors of a graph; inputs and outputs are kept from start to end.

    Args:
        bytes_per_element: Of float32 tensors as they will be written; others keep their width.
    """
    end = len(graph.nodes) - 1
    last: dict[str, int] = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last |= dict.fromkeys(graph.output_tensors(), end)
    first = {port.tensor: 0 for port in graph.inputs}
    first |= {node.output: i for i, node in enumerate(graph.nodes)}
    widths = {"float32": bytes_per_element, "int64": 8, "int32": 4, "bool": 1}
    inputs = {port.tensor for port in graph.inputs}
    return [
        Usage(
            name,
            graph.tensor(name).size * widths[graph.tensor(name).dtype],
            start,
            end if name in inputs else last.get(name, start),
        )
        for name, start in first.items()
    ]


def usages_of_file(file: ModelFile) -> list[Usage]:
    """The same of a TensorFlow Lite file, as its arena sees it.

    Variables and the file's inputs and outputs stay for the whole run; some kernels write their result
    over an operand that nobody reads again, and the two are one tensor then (arena_planner.cc).
    """
    end = max(len(file.operators) - 1, 0)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for position, operator in enumerate(file.operators):
        for index in operator.outputs:
            first.setdefault(index, position)
            last[index] = max(last.get(index, position), position)
        for index in operator.inputs:
            last[index] = position
    first |= dict.fromkeys(file.inputs, 0)
    last |= dict.fromkeys((*file.inputs, *file.outputs), end)
    variables = [tensor.index for tensor in file.tensors if tensor.is_variable]
    first |= dict.fromkeys(variables, 0)
    last |= dict.fromkeys(variables, end)
    computed = {i: _bytes_of(file, i) for i in first if i >= 0 and file.tensors[i].raw is None}
    over = _written_over(file, computed, last, {*file.inputs, *file.outputs, *variables})
    ends = {index: last[index] for index in computed if index not in over}
    for index, root in over.items():
        ends[root] = max(ends[root], last[index])
    return [Usage(str(index), computed[index], first[index], finish) for index, finish in ends.items()]


def _written_over(
    file: ModelFile, computed: Mapping[int, int], last: Mapping[int, int], fixed: set[int]
) -> dict[int, int]:
    """Results that lie where an operand lay, and the tensor whose place that is."""
    over: dict[int, int] = {}
    finish = dict(last)  # of the tensor whose place it is
    for position, operator in enumerate(file.operators):
        operands = IN_PLACE.get(operator.code, 0)
        result = operator.outputs[0] if operator.outputs else -1
        if not operands or result not in computed or result in fixed:
            continue
        for index in operator.inputs[:operands]:
            root = over.get(index, index)
            moved = operator.code not in _UNCHANGED and (
                finish.get(root) != position or computed.get(index) != computed[result]
            )
            if index in computed and index not in fixed and not moved:
                over[result] = root
                finish[root] = max(finish[root], last.get(result, position))
                break
    return over


def _bytes_of(file: ModelFile, index: int) -> int:
    tensor = file.tensors[index]
    return math.prod(max(d, 1) for d in tensor.shape) * _ELEMENT_BYTES.get(tensor.type, 4)
