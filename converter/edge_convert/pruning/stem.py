"""The first convolution in the form that is fastest by the time model: as it is, folded, or reading patches.

All three give the same answers; `stem_fold.py` and `stem_patches.py` say how they come about.
"""

from __future__ import annotations

from edge_contracts.profile import Precision
from edge_convert import time_model
from edge_convert.graph import Graph, Node
from edge_convert.pruning import stem_fold, stem_patches
from edge_convert.pruning.stem_fold import Fold
from edge_convert.pruning.stem_patches import Patches
from edge_convert.time_model import Shapes

Way = Fold | Patches

# Of the graph's predicted time: less is not worth two more operators.
LEAST_SAVING = 0.01


def best(node: Node, shapes: Shapes, precision: Precision, most_parameters: int) -> tuple[Way | None, float]:
    """The fastest form of a convolution and its microseconds; None where the layer is best as it is.

    Args:
        most_parameters: That its weights and biases may have in that form.
    """
    fastest: Way | None = None
    least = time_model.node_us(node, shapes, precision)
    for fold in stem_fold.folds(node, shapes):
        time = stem_fold.us(node, fold, shapes, precision)
        if fold.parameters <= most_parameters and time < least:
            fastest, least = fold, time
    for way in stem_patches.ways(node, shapes):
        time = stem_patches.us(node, way, shapes, precision)
        if way.parameters <= most_parameters and time < least:
            fastest, least = way, time
    return fastest, least


def apply(graph: Graph, node: Node, way: Way) -> Graph:
    """The graph with one convolution in that form."""
    return (
        stem_fold.apply(graph, node, way) if isinstance(way, Fold) else stem_patches.apply(graph, node, way)
    )


def fit_stem(graph: Graph, precision: Precision, most_parameters: int) -> Graph:
    """The graph with its first convolutions in their fastest forms.

    Args:
        precision: That it will run in.
        most_parameters: Of the whole graph, after it.

    Returns:
        The same graph when there is nothing to gain.
    """
    least = LEAST_SAVING * time_model.predicted_us(graph, precision)
    for node in stem_fold.foldable(graph):
        shapes = time_model.shapes_of(graph)
        own = sum(graph.tensor(name).size for name in node.inputs[1:])
        way, time = best(node, shapes, precision, most_parameters - graph.parameters() + own)
        if way is not None and time_model.node_us(node, shapes, precision) - time >= least:
            graph = apply(graph, node, way)
    return graph
