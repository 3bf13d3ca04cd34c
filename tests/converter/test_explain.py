"""Explanations: models whose answers can be worked out by hand, and what is said of them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from linear_models import linear, linear_picture, opened
from small_nets import picture_net
from small_nets import pictures as smooth_pictures

from edge_contracts.profile import load_profile
from edge_convert.data import Split
from edge_convert.evidence import Answered, Evidence
from edge_convert.explain import changed, explainer, occlusion, permutation, plain
from edge_convert.explain.depth import noise_by_depth
from edge_convert.explain.explainer import Explainer, Explanation
from edge_convert.explain.picture import PictureAxes, picture_axes, pixels, png, value_range
from edge_convert.explain.ranks import rank_correlation, ranks
from edge_convert.graph import Array, Graph, Port
from edge_convert.measures.truth import Truth
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.recipe import load

NHWC = PictureAxes(0, 1, 2)


def evidence(graph: Graph, feeds: Mapping[str, Array], task: Any, classes: Any = None) -> Evidence:
    none = np.zeros(0, np.intp)
    truth = None if classes is None else Truth(classes=np.asarray(classes))
    answered = Answered(feeds, opened(graph).run(feeds), truth)
    return Evidence(task, 0, answered, Split(none, none, none), answered)


def explained(
    source: Graph, artifact: Graph, feeds: Mapping[str, Array], task: Any, **more: Any
) -> Explanation:
    explain = Explainer(
        source, opened(source), evidence(source, feeds, task, more.pop("classes", None)), **more
    )
    return explain.of(opened(artifact))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [1.5, 0.0, 1.5, 3.0]


def test_rank_correlation_sees_order_and_nothing_else() -> None:
    rising = np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(rising, np.exp(rising)) == pytest.approx(1)
    assert rank_correlation(rising, -rising) == pytest.approx(-1)
    # one neighbouring pair swapped: 1 - 6 * sum(d^2) / (n (n^2 - 1)) = 1 - 6 * 2 / 60
    assert rank_correlation(rising, np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(0.8)
    assert rank_correlation(rising, np.ones(4)) is None


def decoded(content: bytes) -> tuple[tuple[int, ...], bytes]:
    """Width, height, depth and colour type of a PNG file, and its unfiltered lines."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        assert struct.unpack(">I", content[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return struct.unpack(">IIBBBBB", chunks[b"IHDR"])[:4], zlib.decompress(chunks[b"IDAT"])


def test_a_png_file_holds_the_pixels_line_by_line() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [1, 2, 3]]], np.uint8)
    assert decoded(png(colours)) == ((2, 2, 8, 2), b"\0\xff\0\0\0\xff\0\0\0\0\xff\x01\x02\x03")
    assert decoded(png(np.array([[[7], [8], [9]]], np.uint8))) == ((3, 1, 8, 0), b"\0\x07\x08\x09")


def test_pictures_are_scaled_by_the_usual_range_that_holds_them() -> None:
    assert value_range(np.array([0.1, 0.9])) == (0.0, 1.0)
    assert value_range(np.array([-0.5, 0.9])) == (-1.0, 1.0)
    assert value_range(np.array([0.0, 200.0])) == (0.0, 255.0)
    assert value_range(np.arange(-300.0, 701.0)) == (-290.0, 690.0)  # no usual range: all but 1 % at each end
    assert value_range(np.array([300.0, 300.0])) == (300.0, 301.0)


def test_pixels_follow_layout_channels_and_colour_order() -> None:
    nchw = np.zeros((3, 1, 2), np.float32)
    nchw[2, 0, 1] = 1.0  # the third channel of the right pixel
    axes = picture_axes(Port("x", "x", (1, 3, 8, 9), layout="NCHW"))
    assert axes == PictureAxes(1, 2, 0)
    assert pixels(nchw, axes, (0, 1)).tolist() == [[[0, 0, 0], [0, 0, 255]]]
    assert pixels(nchw, axes, (0, 1), "BGR").tolist() == [[[0, 0, 0], [255, 0, 0]]]
    assert pixels(np.array([[[1.0, 0.0]]]), NHWC, (0, 1)).tolist() == [[[128]]]  # two channels: their mean
    assert picture_axes(Port("x", "x", (1, 3, 8, 9))) is None
    assert picture_axes(Port("x", "x", (1, 7, 96, 3), layout="NHWC")) is None


def test_large_pictures_become_the_means_of_their_pixels() -> None:
    wide = np.repeat(np.array([0.0, 1.0], np.float32), 64).reshape(1, 128, 1)
    assert pixels(wide, NHWC, (0, 1)).ravel().tolist() == [0] * 32 + [255] * 32
    assert pixels(np.ones((200, 97, 3), np.float32), NHWC, (0, 1)).shape == (64, 64, 3)


SOURCE = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.4, 0.6]])
ARTIFACT = np.array([[0.8, 0.2], [0.6, 0.4], [0.45, 0.55], [0.3, 0.7]])


def test_changed_answers_are_counted_and_the_surest_come_first() -> None:
    found = changed.changes(SOURCE, ARTIFACT, np.array([0, 1, 1, 0]))
    assert (found.samples, found.changed, found.lost, found.gained) == (4, 2, 1, 1)
    assert [c.sample for c in found.shown] == [1, 2]
    assert found.shown[0].source[0] == changed.ClassScore(1, 0.8)
    assert found.shown[0].artifact[0] == changed.ClassScore(0, 0.6)
    # margins 0.8 0.6 0.1 0.2: the median of all, and of the two that changed
    assert found.margin_all == pytest.approx(0.4)
    assert found.margin_changed == pytest.approx(0.35)


def test_without_labels_nobody_says_what_was_right() -> None:
    found = changed.changes(SOURCE, SOURCE, None)
    assert (found.changed, found.lost, found.gained, found.margin_changed) == (0, None, None, None)


def test_answers_without_classes_are_ranked_by_how_far_they_moved() -> None:
    source = {"y": np.array([[1.0, 1.0], [10.0, 0.0], [2.0, 2.0]], np.float32)}
    artifact = {"y": np.array([[1.0, 2.0], [10.0, 1.0], [2.0, 2.0]], np.float32)}
    far = changed.furthest(source, artifact)
    # 10 log10(2 / 1) and 10 log10(100 / 1); the third is equal
    assert [(f.sample, round(f.sqnr_db, 2)) for f in far] == [(0, 3.01), (1, 20.0)]


def corner(side: int = 8) -> Graph:
    """Class 0 is the sum of the upper left quarter, class 1 always zero."""
    weights = np.zeros((2, side, side, 1))
    weights[0, : side // 2, : side // 2] = 1
    return linear_picture(weights)


def test_the_occlusion_map_is_high_where_the_answer_comes_from_and_zero_elsewhere() -> None:
    scene = occlusion.Scene(
        {"picture": np.ones((1, 8, 8, 1), np.float32)}, "picture", NHWC, np.zeros((8, 8, 1), np.float32), 4, 4
    )
    # cells are 2 pixels; a covered square is a cell and 1 pixel around it, cut off at the border
    found = occlusion.heat(opened(corner()), scene, 0)
    assert found.tolist() == [[9, 9, 3, 0], [9, 9, 3, 0], [3, 3, 1, 0], [0, 0, 0, 0]]
    # without a class: the output (16, 0) has size sqrt(128), and moves by 9 of its two numbers' one
    relative = occlusion.heat(opened(corner()), scene, None)
    assert relative[0, 0] == pytest.approx(np.sqrt(81 / 2) / np.sqrt(256 / 2))


def test_permutation_importance_is_the_share_of_the_variance() -> None:
    x = np.random.RandomState(0).standard_normal((2000, 3)).astype(np.float32)
    features = permutation.features_of({"x": x})
    assert [f.name for f in features] == ["x[0]", "x[1]", "x[2]"]
    found = permutation.importance(opened(linear([[3, 0, 1]])), {"x": x}, features)
    # y = 3a + c: a has 9 tenths of the variance, c one, b none
    assert found is not None
    assert found == pytest.approx([0.9, 0.0, 0.1], abs=0.03)
    assert found[1] == 0.0


def test_many_features_are_taken_in_groups_that_leave_none_out() -> None:
    feeds = {"a": np.zeros((1, 100), np.float32), "b": np.zeros((1, 2), np.float32)}
    groups = permutation.features_of(feeds, most=8)
    assert [g.name for g in groups] == ["a[0..24]", "a[25..49]", "a[50..74]", "a[75..99]", "b[0]", "b[1]"]


def test_a_model_that_always_says_the_same_rests_on_nothing() -> None:
    x = np.ones((20, 2), np.float32)
    assert (
        permutation.importance(opened(linear([[0, 0]])), {"x": x}, permutation.features_of({"x": x})) is None
    )


def pictures(count: int = 24) -> dict[str, Array]:
    return {"picture": np.random.RandomState(1).uniform(0, 1, (count, 8, 8, 1)).astype(np.float32)}


def test_maps_of_a_picture_model_stand_side_by_side_with_their_pictures() -> None:
    opposite = np.zeros((2, 8, 8, 1))
    opposite[0, :4, :4] = -1
    found = explained(
        corner(), linear_picture(opposite), pictures(), "classification", labels=["lit", "dark"]
    )
    first = found.occlusion[0]
    assert (first.why, first.winner) == ("a clear answer", 0)
    assert first.correlation == pytest.approx(-1)  # what speaks for the class speaks against it there
    assert found.permutation is None
    assert found.pictures is not None
    assert set(found.pictures) == set(explainer.spoken_of(found))
    document = json.loads(json.dumps(plain.as_json(found), allow_nan=False))
    assert document["occlusion"][0]["name"] == "lit"
    assert document["occlusion"][0]["picture"].startswith("data:image/png;base64,")


def test_an_equal_artifact_looks_at_the_same_places_and_changes_nothing() -> None:
    found = explained(corner(), corner(), pictures(), "classification", classes=[0] * 24)
    assert found.changes is not None
    assert (found.changes.changed, found.changes.lost) == (0, 0)
    assert [pair.why for pair in found.occlusion] == ["a clear answer", "closest call"]
    assert all(pair.correlation == pytest.approx(1) for pair in found.occlusion)


def test_a_vector_model_gets_permutation_importance_of_both() -> None:
    x = {"x": np.random.RandomState(0).standard_normal((64, 4)).astype(np.float32)}
    found = explained(linear([[4, 3, 2, 1]]), linear([[1, 2, 3, 4]]), x, "other")
    assert found.permutation is not None
    assert found.permutation.correlation == pytest.approx(-1)
    assert len(found.far) == changed.SHOWN
    assert plain.as_json(found)["permutation"]["features"][0]["name"] == "x[0]"


def test_what_cannot_be_explained_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"x": np.zeros((4, 2), np.float32)}
    assert explained(linear([[1, 2]]), linear([[1, 2]]), x, "other").notes == (
        "no permutation importance: too few samples for it",
    )
    monkeypatch.setattr(explainer, "MACS", 1000.0)  # 128 a picture: seven inferences
    found = explained(corner(), corner(), pictures(), "classification")
    assert (found.occlusion, found.notes) == ((), ("no occlusion maps: the model is too large for them",))


def test_answers_that_are_no_numbers_are_not_explained() -> None:
    with np.errstate(all="ignore"):
        broken = linear_picture(np.full((2, 8, 8, 1), 3e38))
    found = explained(corner(), broken, pictures(), "classification")
    assert found.notes == ("nothing explained: some answers are NaN or infinite",)
    assert found.changes is None


def test_an_artifact_is_explained_once() -> None:
    explain = Explainer(corner(), opened(corner()), evidence(corner(), pictures(), "classification"))
    artifact = opened(corner())
    assert explain.of(artifact) is explain.of(artifact)


def test_noise_is_given_layer_by_layer_in_running_order() -> None:
    graph = picture_net()
    feeds = {"x": smooth_pictures(32)}
    quantization = Quantizer(graph, feeds).quantize(
        load("wi8_ai8_minmax"), rules_for(load_profile("arm-cpu"))
    )
    costs = noise_by_depth(graph, quantization, feeds)
    order = [node.name for node in graph.nodes]
    assert [c.node for c in costs] == [name for name in order if name in {c.node for c in costs}]
    assert all(c.sqnr_db is not None and 5 < c.sqnr_db < 60 for c in costs)
    assert noise_by_depth(graph, Quantization({}), feeds) == ()
