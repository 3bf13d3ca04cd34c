"""Rewrites of the float graph that keep its answers: one rewrite a module, `apply(graph) -> Graph`.

`PIPELINE` is the order; `simplify` repeats it until nothing changes. A pass that is not exact in
real arithmetic has no place here.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_convert.graph import Graph
from edge_convert.passes import (
    drop_dead,
    fold_channel_gather,
    fold_constants,
    fold_dense_layout,
    fold_pads,
    fold_scale_shift,
    fuse_activations,
    global_average,
    join_hard_swish,
    label_layouts,
    merge_reshapes,
    remove_identities,
    remove_transposes,
    sink_reshapes,
)
from edge_convert.validity import validate

Pass = Callable[[Graph], Graph]

PIPELINE: dict[str, Pass] = {
    "fold_constants": fold_constants.apply,
    "remove_identities": remove_identities.apply,
    "fold_scale_shift": fold_scale_shift.apply,
    "sink_reshapes": sink_reshapes.apply,
    "merge_reshapes": merge_reshapes.apply,
    "remove_transposes": remove_transposes.apply,
    "fold_dense_layout": fold_dense_layout.apply,
    "fold_channel_gather": fold_channel_gather.apply,
    "fold_pads": fold_pads.apply,
    "global_average": global_average.apply,
    "join_hard_swish": join_hard_swish.apply,
    "fuse_activations": fuse_activations.apply,
    "drop_dead": drop_dead.apply,
    "label_layouts": label_layouts.apply,
}

MAX_ROUNDS = 50  # each round that goes on has removed or sunk something; models need 2 to 5


def simplify(graph: Graph) -> Graph:
    """Run all passes until the graph no longer changes; it is validated at the end.

    Raises:
        RuntimeError: Two passes undo each other, which is a fault of theirs.
    """
    for _ in range(MAX_ROUNDS):
        before = _content(graph)
        for rewrite in PIPELINE.values():
            graph = rewrite(graph)
        if _content(graph) == before:
            return validate(graph)
    raise RuntimeError(f"graph {graph.name!r} still changes after {MAX_ROUNDS} rounds of passes")


def _content(graph: Graph) -> tuple[object, ...]:
    """What two equal graphs share; constants count by name, since a pass that changes one renames it."""
    nodes = tuple((n.op, n.name, n.inputs, n.outputs, tuple(sorted(n.attrs.items()))) for n in graph.nodes)
    return graph.inputs, graph.outputs, nodes
