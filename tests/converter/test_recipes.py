"""Recipes: every file in the folder loads and keeps its promise; what is wrong is refused by name."""

from __future__ import annotations

import pytest
from small_nets import litert_run, picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe, reference
from edge_convert.emitters import tflite
from edge_convert.errors import RecipeInvalid
from edge_convert.measures import score
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer

GOOD = b"""format = "edgefleet.recipe/1"
name = "wi8_ai8_p999_bc"
title = "t"
precision = "int8"
bias_correction = true
min_sqnr_db = 1.0
[activations]
range = "percentile"
percentile = 99.9
"""


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_reaches_its_stated_tolerance_in_the_real_runtime(name: str) -> None:
    graph, chosen = picture_net(), recipe.load(name)
    calibration, unseen = pictures(64, seed=1), pictures(32, seed=2)
    if chosen.precision == "int8":
        feeds = {"x": calibration}
        rules = rules_for(load_profile("arm-cpu"))
        content = tflite.emit(graph, Quantizer(graph, feeds).quantize(chosen, rules))
    else:
        content = tflite.emit(graph, weights=chosen.precision)
    exact = reference.run(graph, {"x": unseen})[graph.outputs[0].name]
    ratio = score.sqnr_db(exact, litert_run(content, unseen))
    assert ratio is None or ratio >= chosen.min_sqnr_db


def test_the_name_of_a_file_is_the_name_in_it() -> None:
    assert all(recipe.load(name).name == name for name in recipe.names())


def test_a_good_file_is_read() -> None:
    chosen = recipe.parse(GOOD, "mine")
    assert (chosen.precision, chosen.bias_correction, chosen.weights.range) == ("int8", True, "absmax")


def test_comments_do_not_change_the_digest_and_content_does() -> None:
    digest = recipe.parse(GOOD, "mine").digest
    assert recipe.parse(b"# a word\n" + GOOD, "mine").digest == digest
    assert recipe.parse(GOOD.replace(b"1.0", b"2.0"), "mine").digest != digest


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"bias_correction", b"bias_corection", "did you mean 'bias_correction'"),
        (b"percentile = 99.9", b"percentil = 99.9", "did you mean 'percentile'"),
        (b"_p999_bc", b"_minmax", "is named 'wi8_ai8_p999_bc'"),
        (b"recipe/1", b"recipe/2", "expected 'edgefleet.recipe/1'"),
        (b"percentile = 99.9", b"", "percentile must be stated"),
        (b'"percentile"', b'"minmax"', "percentile must be stated"),
        (b'precision = "int8"', b'precision = "float16"', "activations must be stated"),
        (b'precision = "int8"', b'precision = "int4"', "int4"),
        (b"min_sqnr_db = 1.0", b"", "min_sqnr_db"),
        (b"[activations]", b"[activations", "is not TOML"),
        (b'"t"', b'"\xff"', "is not TOML"),
    ],
)
def test_a_fault_is_refused_by_name_on_one_line(old: bytes, new: bytes, said: str) -> None:
    with pytest.raises(RecipeInvalid) as refusal:
        recipe.parse(GOOD.replace(old, new), "recipe mine")
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeInvalid, match="did you mean 'wi8_ai8_minmax'"):
        recipe.load("wi8_ai8_minmx")
