"""Where the instructions of an inference go, layer by layer, on an emulated Cortex-A76; and what cannot go.

    python benchmarks/arm_layers.py [--models ic vww kws] [--all]

For MLPerf's own int8 files, and the form without loss of our converter beside them. A file is cut behind
each operator, everything that is still to be read being an output, and counted; a row is the difference to
the cut before. "MACs each" is multiply-accumulates per instruction: the int8 dot product does 16, a kernel's
loads and stores come on top. The last lines say what would be left of MLPerf's count if every multiplication
were done at the pace of the layer of its kind that is best at it, and nothing else cost anything: no file
with the same multiplications in the same kinds of layers takes fewer in this runtime. Without `--all`, rows
below 2 % are summed up.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from conversion_cases import Case, cases, of_tflite

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe
from edge_convert.device import arm
from edge_convert.device.arm import Userland
from edge_convert.errors import EmulationMissing
from edge_convert.pruning.prune import LadderOptions, ladder
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.source import read_source
from edge_convert.terminal import table

HEAD = ("model", "form", "operator", "result", "kMACs", "kinst", "share", "MACs each")
KEYS = ("ic", "vww", "kws")
LOCAL = Path(__file__).parents[1] / ".arm"
RECIPE = "wi8_ai8_minmax_bc"
SMALL = 0.02
_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


@dataclass(frozen=True)
class Layer:
    """One operator of a file: what it is, what it multiplies, what it takes."""

    name: str
    shape: tuple[int, ...]
    macs: int
    instructions: int


def layers(content: bytes, sample: dict[str, np.ndarray], userland: Userland) -> list[Layer]:
    """Every operator of a file with one sub-graph."""
    found: list[Layer] = []
    before = 0
    for index in range(1, len(_model(content).subgraphs[0].operators) + 1):
        count = arm.instructions(_cut(content, index), sample, arm.CPUS[0], userland)
        model = _model(content)
        graph = model.subgraphs[0]
        operator = graph.operators[index - 1]
        code = model.operatorCodes[operator.opcodeIndex]
        name = _NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        shape = tuple(int(size) for size in graph.tensors[operator.outputs[0]].shape)
        shapes = [graph.tensors[i].shape for i in operator.inputs if i >= 0]
        found.append(Layer(name, shape, _macs(name, shape, shapes), count - before))
        before = count
    return found


def _model(content: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _cut(content: bytes, count: int) -> bytes:
    """The file with its first operators only; what later ones read is an output."""
    model = _model(content)
    graph = model.subgraphs[0]
    kept, later = graph.operators[:count], graph.operators[count:]
    made = [index for operator in kept for index in operator.outputs]
    wanted = {index for operator in later for index in operator.inputs} | set(graph.outputs)
    graph.operators, graph.outputs = kept, [index for index in made if index in wanted]
    model.signatureDefs = []
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _macs(name: str, shape: tuple[int, ...], inputs: list[np.ndarray]) -> int:
    if name == "DEPTHWISE_CONV_2D":
        return math.prod(shape) * math.prod(int(size) for size in inputs[1][1:3])
    if name in ("CONV_2D", "FULLY_CONNECTED"):
        return math.prod(shape) * math.prod(int(size) for size in inputs[1][1:])
    return 0


def without_loss(case: Case) -> bytes:
    """Our int8 file of the form that loses nothing before it is quantized."""
    graph = read_source(case.source).graph
    feeds = {graph.inputs[0].name: case.calibration}
    form = next(ladder(graph, feeds, LadderOptions())).graph
    rules = rules_for(load_profile("arm-cpu"))
    quantization = Quantizer(form, feeds).quantize(recipe.load(RECIPE), rules)
    return candidates.written(form, "tflite", recipe.load(RECIPE), quantization).files[".tflite"]


def rows(key: str, form: str, found: list[Layer], everything: bool) -> list[tuple[str, ...]]:
    """The table of one file."""
    total = sum(layer.instructions for layer in found)
    lines, rest = [], 0
    for layer in found:
        if not everything and layer.instructions < SMALL * total:
            rest += layer.instructions
            continue
        pace = f"{layer.macs / layer.instructions:.1f}" if layer.macs else "-"
        shape = "x".join(map(str, layer.shape[1:]))
        lines.append(_line(key, form, layer.name.lower(), shape, layer.macs, layer.instructions, total, pace))
    if rest:
        lines.append(_line(key, form, "all others", "", 0, rest, total, "-"))
    macs = sum(layer.macs for layer in found)
    lines.append(_line(key, form, "in all", "", macs, total, total, f"{macs / total:.1f}"))
    return lines


def _line(
    key: str, form: str, name: str, shape: str, macs: int, instructions: int, total: int, pace: str
) -> tuple[str, ...]:
    thousands = f"{macs / 1000:.0f}" if macs else "-"
    return (
        key,
        form,
        name,
        shape,
        thousands,
        f"{instructions / 1000:.1f}",
        f"{instructions / total:.0%}",
        pace,
    )


def floor(key: str, theirs: list[Layer]) -> str:
    """What would be left of MLPerf's instructions at the pace of each kernel's best layer."""
    total = sum(layer.instructions for layer in theirs)
    left = 0.0
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        found = [layer for layer in theirs if layer.name == name]
        if found:
            pace = max(layer.macs / layer.instructions for layer in found)
            left += sum(layer.macs for layer in found) / pace
    return (
        f"{key}: the same multiplications at the best pace: {left / 1000:.0f} kinst, {total / left:.2f} fewer"
    )


def main() -> None:
    """Cut, count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=list(KEYS), choices=KEYS)
    parser.add_argument("--all", action="store_true", help="print layers below 2 %, too")
    options = parser.parse_args()
    try:
        userland = arm.find(LOCAL if LOCAL.is_dir() else None)
    except EmulationMissing as error:
        print(f"not counted: {error}")
        return
    lines: list[tuple[str, ...]] = []
    floors = []
    for case, key in zip(cases(), KEYS, strict=False):
        if key not in options.models:
            continue
        sample = case.evaluation[:1]
        for form, content in (("MLPerf int8", case.twin.read_bytes()), ("without loss", without_loss(case))):
            found = layers(content, of_tflite(content).bound(sample), userland)
            lines += rows(key, form, found, options.all)
            if form == "MLPerf int8":
                floors.append(floor(key, found))
    print(table(HEAD, lines))
    print()
    print("\n".join(floors))


if __name__ == "__main__":
    main()
