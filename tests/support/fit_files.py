"""Files written for a profile from the small nets. No tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from digit_models import classifier, write_data
from small_nets import pictures

from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.profile import load_profile
from edge_convert import candidates
from edge_convert.build import BuildOptions
from edge_convert.gates import Limits
from edge_convert.graph import Array, Graph
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect


def int8_candidate(
    graph: Graph, profile: str, feeds: Mapping[str, Array] | None = None
) -> candidates.Candidate:
    """The graph in int8 as a profile wants it."""
    feeds = feeds or {graph.inputs[0].name: pictures(8)}
    recipe = candidates.recipes_for("int8")[0]
    loaded = load_profile(profile)
    quantization = choose(graph, collect(graph, feeds), recipe, rules_for(loaded))
    return candidates.written(graph, loaded.target, recipe, quantization)


def digits_options(folder: Path, **changes: Any) -> BuildOptions:
    """Options to build the digit classifier, untimed and unpruned."""
    write_private(PrivateKey.generate(), folder / "private.pem")
    options = BuildOptions(
        model=classifier(folder / "digits.onnx"),
        profiles=["arm-cpu"],
        name="digits",
        version="1",
        calibration=write_data(folder / "calibration.npz", "calibration", labels=False),
        evaluation=write_data(folder / "evaluation.npz", "evaluation"),
        sign_key=folder / "private.pem",
        output=folder / "out",
        limits=Limits(latency="off"),
        prune="none",
    )
    return replace(options, **changes)
