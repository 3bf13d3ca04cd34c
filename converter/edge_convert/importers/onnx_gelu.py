"""GELU as exporters spell it: x * 0.5 * (1 + erf(x / sqrt 2)), put back together as one node.

The graph has no error function of its own, so this runs on ONNX nodes, before they are imported.
An Erf in any other place stays and is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_convert.graph import Array
from edge_convert.importers.onnx_builder import Call

_TOLERANCE = 1e-3  # half-precision exports round sqrt 2 to 1.4140625


@dataclass(frozen=True)
class _Source:
    """What the pattern looks at: who makes a value, who reads it, which scalars are known."""

    makers: Mapping[str, Call]
    readers: Mapping[str, list[Call]]
    constants: Mapping[str, Array]
    outputs: frozenset[str]

    def scalar(self, name: str) -> float | None:
        value = self.constants.get(name)
        return float(value.item()) if value is not None and value.size == 1 else None

    def scaled(self, name: str) -> tuple[str, float]:
        """(x, factor) when the value is x times or divided by a known scalar, else (value, 1)."""
        call = self.makers.get(name)
        if call is None or call.operator not in ("Mul", "Div"):
            return name, 1.0
        left, right = call.inputs
        if (factor := self.scalar(right)) is not None and factor != 0.0:
            return left, factor if call.operator == "Mul" else 1.0 / factor
        if call.operator == "Mul" and (factor := self.scalar(left)) is not None:
            return right, factor
        return name, 1.0

    def only_reader(self, name: str) -> Call | None:
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def join_gelu(calls: Sequence[Call], constants: Mapping[str, Array], outputs: Sequence[str]) -> list[Call]:
    """Replace each spelled-out GELU by a Gelu node; nodes that nothing reads any more go."""
    if not any(call.operator == "Erf" for call in calls):
        return list(calls)
    readers: dict[str, list[Call]] = {}
    for call in calls:
        for name in dict.fromkeys(call.inputs):
            readers.setdefault(name, []).append(call)
    source = _Source({o: c for c in calls for o in c.outputs}, readers, constants, frozenset(outputs))
    joined: dict[str, str] = {}  # the product's output -> x
    for call in calls:
        if call.operator == "Erf" and (match := _match(source, call)) is not None:
            joined[match[0]] = match[1]
    result = [
        replace(c, operator="Gelu", inputs=(joined[c.outputs[0]],), attrs={}) if c.outputs[0] in joined else c
        for c in calls
    ]
    return _live(result, outputs)


def _match(source: _Source, erf: Call) -> tuple[str, str] | None:
    """(name of the finished GELU, its x), or None when this Erf is something else."""
    x, factor = source.scaled(erf.inputs[0])
    if not math.isclose(factor, math.sqrt(0.5), rel_tol=_TOLERANCE):
        return None
    add = source.only_reader(erf.outputs[0])
    if add is None or add.operator != "Add":
        return None
    one = source.scalar(add.inputs[1] if add.inputs[0] == erf.outputs[0] else add.inputs[0])
    if one is None or not math.isclose(one, 1.0, rel_tol=_TOLERANCE):
        return None
    value, scale, has_x = add.outputs[0], 1.0, False
    while (product := source.only_reader(value)) is not None and product.operator in ("Mul", "Div"):
        first = product.inputs[0] == value
        other = product.inputs[1] if first else product.inputs[0]
        number = source.scalar(other)
        if product.operator == "Div":
            if number is None or not first:
                return None
            scale /= number
        elif number is not None:
            scale *= number
        elif not has_x and other == x:
            has_x = True
        elif not has_x and source.scaled(other)[0] == x:
            has_x, scale = True, scale * source.scaled(other)[1]
        else:
            return None
        value = product.outputs[0]
        if has_x and math.isclose(scale, 0.5, rel_tol=_TOLERANCE):
            return value, x
    return None


def _live(calls: Sequence[Call], outputs: Sequence[str]) -> list[Call]:
    needed = set(outputs)
    kept: list[Call] = []
    for call in reversed(calls):
        if any(o in needed for o in call.outputs):
            kept.append(call)
            needed.update(call.inputs)
    return kept[::-1]
