"""Outputs to answers: labels with scores, boxes."""

from __future__ import annotations

import json
import math
from typing import Any

import input_bundles
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edge_agent.input.boxes import suppress
from edge_agent.input.interpret import interpret
from edge_agent.input.view import View
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Anchors, Candidates, Classes, Detections, Grid

PICTURE = {"shape": (1, 100, 200, 3), "layout": "NHWC"}
LABELS = ("cat", "dog", "fox")


def classifier(**rule: Any) -> Manifest:
    return input_bundles.manifest({"shape": (1, 4)}, interpret=Classes(kind="classes", **rule))


def detector(rule: Any, **outputs: tuple[int, ...]) -> Manifest:
    specs = [TensorSpec(name=name, shape=shape) for name, shape in outputs.items()]
    return input_bundles.manifest(PICTURE, specs, interpret=rule, task="detection")


def boxes(manifest: Manifest, view: View | None = None, **outputs: Any) -> list[dict[str, Any]]:
    arrays = {name: np.asarray(values, np.float32)[np.newaxis] for name, values in outputs.items()}
    (answer,) = interpret(manifest, arrays, view)
    json.dumps(answer, allow_nan=False)
    found: list[dict[str, Any]] = answer["boxes"]
    return found


# --- classes


def test_a_classifier_without_a_rule_gives_its_best_class() -> None:
    manifest = input_bundles.manifest({"shape": (1, 4)})
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)
    assert interpret(manifest, {"scores": scores}) == [
        {"top": [{"class": "dog", "index": 1, "score": pytest.approx(0.7)}]},
        {"top": [{"class": "cat", "index": 0, "score": 0.5}]},
    ]


def test_softmax_makes_probabilities_of_logits() -> None:
    (answer,) = interpret(
        classifier(activation="softmax", top_k=2), {"scores": np.array([[1.0, 1000.0, 999.0]])}
    )
    assert [one["class"] for one in answer["top"]] == ["dog", "fox"]
    assert [one["score"] for one in answer["top"]] == pytest.approx(
        [1 / (1 + math.exp(-1)), 1 / (1 + math.e)]
    )


def test_sigmoid_lets_several_classes_be_sure() -> None:
    manifest = classifier(activation="sigmoid", at_least=0.5)
    (answer,) = interpret(manifest, {"scores": np.array([[3.0, -3.0, 0.5]])})
    assert [one["class"] for one in answer["top"]] == ["cat", "fox"]
    assert answer["top"][0]["score"] == pytest.approx(1 / (1 + math.exp(-3)))


def test_equal_scores_go_by_index() -> None:
    (answer,) = interpret(classifier(), {"scores": np.array([[0.4, 0.2, 0.4]])})
    assert [one["index"] for one in answer["top"]] == [0, 2, 1]


def test_a_score_that_is_not_finite_is_none() -> None:
    (answer,) = interpret(classifier(top_k=3), {"scores": np.array([[0.4, np.nan, 0.1]])})
    assert json.loads(json.dumps(answer, allow_nan=False))
    assert {one["score"] for one in answer["top"]} >= {None}


def test_what_the_contract_does_not_explain_is_left_alone() -> None:
    manifest = input_bundles.manifest({"shape": (1, 4)}, task="regression")
    assert interpret(manifest, {"scores": np.zeros((2, 3))}) == [{}, {}]


# --- boxes that the model has decoded itself


def test_detections_are_sorted_and_set_into_the_picture() -> None:
    rule = Detections(kind="detections", boxes="b", scores="s", classes="c", count="n", max_iou=None)
    manifest = detector(rule, b=(1, 3, 4), s=(1, 3), c=(1, 3), n=(1,))
    found = boxes(
        manifest,
        b=[[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], [0.5, 0.5, 0.6, 0.6]],
        s=[0.6, 0.9, 0.8],
        c=[2, 0, 1],
        n=2,
    )
    assert [one["class"] for one in found] == ["cat", "fox"]
    assert found[1]["box"] == pytest.approx([0.2, 0.1, 0.4, 0.3])


def test_rows_of_six_hold_score_and_class() -> None:
    rule = Detections(kind="detections", boxes="b", corners="xyxy", unit="pixel", first_class=1)
    found = boxes(detector(rule, b=(1, 2, 6)), b=[[20, 10, 40, 30, 0.9, 2], [0, 0, 1, 1, 0.1, 1]])
    assert found == [
        {"class": "dog", "index": 1, "score": pytest.approx(0.9), "box": pytest.approx([0.1, 0.1, 0.2, 0.3])}
    ]


def test_a_letterboxs_boxes_are_of_the_picture_that_was_handed_over() -> None:
    rule = Detections(kind="detections", boxes="b", corners="xyxy")
    view = View(0.0, -0.5, 1.0, 1.5)  # bars above and below
    (found,) = boxes(detector(rule, b=(1, 1, 6)), view, b=[[0.25, 0.25, 0.75, 0.75, 0.9, 0]])
    assert found["box"] == pytest.approx([0.25, 0.0, 0.75, 1.0])


# --- candidates


def yolo(**rule: Any) -> Candidates:
    return Candidates(kind="candidates", output="o", **rule)


def test_columns_of_candidates_are_read_as_yolov8_writes_them() -> None:
    values = np.zeros((7, 3))
    values[:4] = [[100, 50, 100], [50, 50, 50], [20, 20, 20], [10, 10, 10]]  # cx, cy, w, h in pixels
    values[4:, 0] = [0.1, 0.8, 0.1]
    values[4:, 1] = [0.1, 0.2, 0.7]
    values[4:, 2] = [0.1, 0.75, 0.1]  # the first one again: pushed out
    found = boxes(detector(yolo(along="columns"), o=(1, 7, 3)), o=values)
    assert [(one["class"], one["score"]) for one in found] == [
        ("dog", pytest.approx(0.8)),
        ("fox", pytest.approx(0.7)),
    ]
    assert found[0]["box"] == pytest.approx([90 / 200, 45 / 100, 110 / 200, 55 / 100])


def test_objectness_multiplies_the_classes() -> None:
    rows = [[100, 50, 20, 10, 0.5, 0.9, 0.2], [40, 50, 20, 10, 1.0, 0.2, 0.8]]
    found = boxes(detector(yolo(objectness=True), o=(1, 2, 7)), o=rows)
    assert [(one["index"], one["score"]) for one in found] == [(1, pytest.approx(0.8))]  # 0.45 is too low


def test_overlap_counts_within_a_class_unless_all_are_meant() -> None:
    rows = [[100, 50, 20, 10, 0.9, 0.0], [100, 50, 20, 10, 0.0, 0.8]]
    assert len(boxes(detector(yolo(), o=(1, 2, 6)), o=rows)) == 2
    assert len(boxes(detector(yolo(across_classes=True), o=(1, 2, 6)), o=rows)) == 1


def test_candidates_that_are_not_finite_are_left_out() -> None:
    rows = [[np.nan, 50, 20, 10, 0.9], [100, 50, 20, 10, np.nan], [100, 50, 20, 10, 0.6]]
    assert len(boxes(detector(yolo(), o=(1, 3, 5)), o=rows)) == 1


@pytest.mark.parametrize("max_iou", [0.0, 0.3, 0.45, 0.9])
def test_suppression_keeps_what_onnxs_reference_keeps(max_iou: float) -> None:
    rng = np.random.default_rng(3)
    low = rng.uniform(0, 1, (60, 2))
    corners = np.concatenate([low, low + rng.uniform(0.05, 0.5, (60, 2))], axis=1)
    scores = np.sort(rng.uniform(0.1, 1, 60))[::-1]
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["selected"])
    kinds = {"boxes": (1, [1, 60, 4]), "scores": (1, [1, 1, 60]), "most": (7, [1]), "iou": (1, [1])}
    graph = helper.make_graph(
        [node],
        "nms",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()],
        [helper.make_tensor_value_info("selected", 7, [None, 3])],
    )
    (selected,) = ReferenceEvaluator(helper.make_model(graph)).run(
        None,
        {
            "boxes": corners[None].astype(np.float32),
            "scores": scores[None, None].astype(np.float32),
            "most": np.array([60]),
            "iou": np.array([max_iou], np.float32),
        },
    )
    found = suppress(corners.astype(np.float32).astype(np.float64), np.zeros(60, np.intp), max_iou, 60)
    assert found.tolist() == selected[:, 2].tolist()


# --- anchors


def anchors(**rule: Any) -> Anchors:
    stated = {"kind": "anchors", "boxes": "b", "scores": "s", "scale": (10, 10, 5, 5)}
    grids = (
        Grid(rows=1, columns=2, sizes=((0.2, 0.4),)),
        Grid(rows=1, columns=1, sizes=((1, 1), (0.5, 0.5))),
    )
    return Anchors.model_validate(stated | {"grids": grids} | rule)


def answer(rule: Anchors, offsets: NDArray[Any], scores: NDArray[Any]) -> list[dict[str, Any]]:
    return boxes(detector(rule, b=(1, *offsets.shape), s=(1, *scores.shape)), b=offsets, s=scores)


def test_ssds_offsets_are_decoded_as_its_paper_says() -> None:
    # Liu et al., arXiv:1512.02325, eq. 2, with the variances 0.1 and 0.2: second anchor, centre (0.75, 0.5)
    offsets = np.zeros((4, 4))
    offsets[1] = [1.0, -2.0, 5 * math.log(2), 0]  # y, x, h, w
    scores = np.tile([9.0, 0, 0], (4, 1))  # nothing, nearly everywhere
    scores[1] = [0, 2, 9]
    rule = anchors(order="yxhw", size="exp", activation="softmax", background=True)
    (found,) = answer(rule, offsets, scores)
    x, y, w, h = 0.75 - 0.2 * 0.2, 0.5 + 0.4 * 0.1, 0.2, 0.4 * 2
    assert found["class"] == "dog"
    assert found["score"] == pytest.approx(math.exp(9) / (1 + math.exp(2) + math.exp(9)))
    assert found["box"] == pytest.approx([x - w / 2, y - h / 2, x + w / 2, y + h / 2], abs=1e-6)


def test_blazefaces_offsets_are_linear_and_bring_keypoints() -> None:
    # MediaPipe's TensorsToDetectionsCalculator with reverse_output_order and fixed anchors
    offsets = np.zeros((4, 8))
    offsets[2] = [1, 2, 2.5, 5, 3, -3, 0, 1]
    scores = np.full((4, 1), -100.0)
    scores[2] = 2
    (found,) = answer(anchors(keypoints=2), offsets, scores)
    assert found["score"] == pytest.approx(1 / (1 + math.exp(-2)))
    assert found["box"] == pytest.approx([0.6 - 0.25, 0.7 - 0.5, 0.6 + 0.25, 0.7 + 0.5])
    assert found["keypoints"] == [pytest.approx([0.8, 0.2]), pytest.approx([0.5, 0.6])]
