"""Candidates: the graph compressed by each recipe and written for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge_contracts.profile import Precision
from edge_convert import recipe as recipes
from edge_convert.binding import Model, bind_artifact
from edge_convert.emitters import tflite as tflite_emitter
from edge_convert.engine import open_artifact
from edge_convert.graph import Graph
from edge_convert.quantizing.quantization import Quantization
from edge_convert.recipe import Recipe

Format = Literal["tflite", "openvino-ir"]
Weights = Literal["float32", "float16"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One compressed form of the model, written and opened.

    Args:
        files: Contents by suffix, in the order that a manifest lists them.
        kept_float: Nodes that were kept in float though they have an int8 form.
    """

    recipe: Recipe
    format: Format
    files: Mapping[str, bytes]
    quantization: Quantization | None
    model: Model
    kept_float: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The recipe's name, with the number of nodes kept in float: the sets of one recipe are nested."""
        kept = f"+{len(self.kept_float)}float" if self.kept_float else ""
        return self.recipe.name + kept

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(len(content) for content in self.files.values())

    @property
    def weight_bytes(self) -> int:
        """Size without OpenVINO's .xml: a text that grows with every operator and shrinks in the archive."""
        return sum(len(content) for suffix, content in self.files.items() if suffix != ".xml")


def recipes_for(precision: Precision) -> list[Recipe]:
    """Every recipe that makes artifacts of a precision, by name."""
    return [r for name in recipes.names() if (r := recipes.load(name)).precision == precision]


def float_form(graph: Graph, target: str, precision: Precision = "float32") -> Candidate:
    """The graph written in floating point."""
    (recipe,) = recipes_for(precision)
    return written(graph, target, recipe, None)


def written(
    graph: Graph,
    target: str,
    recipe: Recipe,
    quantization: Quantization | None,
    kept_float: frozenset[str] = frozenset(),
) -> Candidate:
    """The graph compressed by a recipe, with the quantization that came of it (None for float).

    Args:
        kept_float: The nodes that `Quantizer.quantize` was told to keep in float.
    """
    weights: Weights = "float16" if recipe.precision == "float16" else "float32"
    fmt, files = EMIT[target](graph, quantization, weights)
    model = bind_artifact(graph, open_artifact(files, fmt))
    return Candidate(recipe, fmt, files, quantization, model, kept_float)


def _emit_tflite(
    graph: Graph, quantization: Quantization | None, weights: Weights
) -> tuple[Format, dict[str, bytes]]:
    return "tflite", {".tflite": tflite_emitter.emit(graph, quantization, weights)}


def _emit_openvino(
    graph: Graph, quantization: Quantization | None, weights: Weights
) -> tuple[Format, dict[str, bytes]]:
    from edge_convert.emitters import openvino  # not every target needs OpenVINO

    xml, binary = openvino.emit(graph, quantization, weights)
    return "openvino-ir", {".xml": xml, ".bin": binary}


# target of a profile -> who writes it
EMIT = {"tflite": _emit_tflite, "openvino": _emit_openvino}
