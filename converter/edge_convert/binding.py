"""Bindings: how a tensor of the contract (the source's own space) meets a tensor of a file.

The meaning is that of `edge_contracts.manifest.Binding`; this makes them for an artifact and
applies them, so that everything else in the converter speaks the source's names, layout and units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_contracts.manifest import Binding, Dtype
from edge_convert.engine import Engine, EnginePort, run
from edge_convert.graph import Array, Graph, Port


@dataclass(frozen=True, eq=False)
class Model:
    """An opened file that takes and gives the contract's tensors.

    Args:
        dtypes: Of the contract's outputs, by name.
    """

    engine: Engine
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]
    dtypes: Mapping[str, str]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run n samples: feeds and results by the contract's names, in its space."""
        answers = run(self.engine, self.encoded(feeds))
        return {b.name: decode(b, answers[b.tensor], self.dtypes[b.name]) for b in self.outputs}

    def encoded(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds as the file takes them."""
        return {b.tensor: encode(b, feeds[b.name]) for b in self.inputs}


def encode(binding: Binding, values: Array) -> Array:
    """The contract's values as the file's tensor takes them.

    Args:
        values: [n, ...] in the contract's layout.
    """
    if binding.perm is not None:
        values = np.transpose(values, binding.perm)
    if binding.scale is not None:
        info = np.iinfo(binding.dtype)
        codes = np.rint(values.astype(np.float64) / binding.scale) + binding.zero_point
        values = np.clip(codes, info.min, info.max)
    return np.ascontiguousarray(values, dtype=binding.dtype)


def decode(binding: Binding, values: Array, dtype: str = "float32") -> Array:
    """What the file's tensor gave, in the contract's space.

    Args:
        dtype: Of the contract's tensor.
    """
    if binding.scale is not None:
        values = (values.astype(np.float64) - binding.zero_point) * binding.scale
    if binding.perm is not None:
        values = np.transpose(values, binding.perm)
    return np.ascontiguousarray(values, dtype=dtype)


def bind_artifact(graph: Graph, engine: Engine) -> Model:
    """Bind what an emitter wrote: its ports stand in the graph's order."""
    return Model(
        engine,
        tuple(_binding(p, e) for p, e in zip(graph.inputs, engine.inputs, strict=True)),
        tuple(_binding(p, e) for p, e in zip(graph.outputs, engine.outputs, strict=True)),
        _output_dtypes(graph),
    )


def bind_source(graph: Graph, engine: Engine) -> Model:
    """Bind the source file itself: its tensors are the contract, by name where names agree, else in order."""
    return Model(
        engine,
        tuple(_binding(p, e, same_layout=True) for p, e in _matched(graph.inputs, engine.inputs)),
        tuple(_binding(p, e, same_layout=True) for p, e in _matched(graph.outputs, engine.outputs)),
        _output_dtypes(graph),
    )


def _matched(ports: Sequence[Port], engine_ports: Sequence[EnginePort]) -> list[tuple[Port, EnginePort]]:
    by_name = {name: port for port in engine_ports for name in (port.name, *port.aliases)}
    if all(port.name in by_name for port in ports):
        return [(port, by_name[port.name]) for port in ports]
    return list(zip(ports, engine_ports, strict=True))


def _binding(port: Port, engine_port: EnginePort, same_layout: bool = False) -> Binding:
    return Binding(
        name=port.name,
        tensor=engine_port.name,
        dtype=cast(Dtype, engine_port.dtype),
        shape=engine_port.shape,
        perm=None if same_layout else port.perm,
        scale=engine_port.scale,
        zero_point=engine_port.zero_point,
    )


def _output_dtypes(graph: Graph) -> dict[str, str]:
    return {port.name: graph.tensor(port.tensor).dtype for port in graph.outputs}
