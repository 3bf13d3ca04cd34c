"""Detections: which outputs are understood, and mAP worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge_convert.errors import DataInvalid
from edge_convert.measures import detection, metrics

BOX = np.array([0.0, 0.0, 0.2, 0.2])
AWAY = np.array([0.5, 0.5, 0.7, 0.7])


def tflite(boxes: np.ndarray, classes: list[list[float]], scores: list[list[float]]) -> dict[str, np.ndarray]:
    return {
        "d:0": boxes.astype(np.float32),
        "d:1": np.array(classes, np.float32),
        "d:2": np.array(scores, np.float32),
        "d:3": np.full(len(boxes), boxes.shape[1], np.float32),
    }


def ap(answers: dict[str, np.ndarray], boxes: np.ndarray, classes: np.ndarray, limit: float) -> float | None:
    found = detection.read(answers)
    return detection.mean_ap(found, boxes, classes, (limit,))(np.ones(len(boxes)))


def test_overlap_is_the_shared_area_over_the_joint_one() -> None:
    half = np.array([0.0, 0.1, 0.2, 0.3])  # shares 0.02 of 0.06
    assert detection.overlaps(BOX[None], np.array([BOX, half, AWAY]))[0] == pytest.approx([1, 1 / 3, 0])


def test_average_precision_by_hand() -> None:
    # two boxes to find; found surest first: right, wrong, right. precision 1, 1/2, 2/3 at recall
    # 1/2, 1/2, 1: 51 of the 101 recalls up to 0.5 read 1, the other 50 read 2/3
    boxes = np.array([[BOX, AWAY]])
    answers = tflite(np.array([[BOX, BOX + 0.25, AWAY]]), [[0, 0, 0]], [[0.9, 0.8, 0.7]])
    found = ap(answers, boxes, np.array([[0, 0]]), 0.5)
    assert found == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_is_found_once_and_a_second_detection_of_it_is_wrong() -> None:
    boxes, classes = np.array([[BOX, AWAY]]), np.array([[0, 0]])
    twice = tflite(np.array([[BOX, BOX, AWAY]]), [[0, 0, 0]], [[0.9, 0.8, 0.7]])
    assert ap(twice, boxes, classes, 0.5) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_class_and_the_overlap_must_be_right() -> None:
    boxes, classes = np.array([[BOX]]), np.array([[1]])
    shifted = np.array([0.0, 0.04, 0.2, 0.24])  # overlap 0.032 / 0.048 = 2 / 3
    assert ap(tflite(np.array([[shifted]]), [[1]], [[0.9]]), boxes, classes, 0.5) == pytest.approx(1)
    assert ap(tflite(np.array([[shifted]]), [[1]], [[0.9]]), boxes, classes, 0.7) == 0
    assert ap(tflite(np.array([[shifted]]), [[0]], [[0.9]]), boxes, classes, 0.5) == 0
    mean = detection.mean_ap(
        detection.read(tflite(np.array([[shifted]]), [[1]], [[0.9]])), boxes, classes, detection.COCO_OVERLAPS
    )(np.ones(1))
    assert mean == pytest.approx(0.4)  # of 0.50, 0.55, ... 0.95 the first four


def test_a_sample_without_boxes_costs_by_what_is_found_in_it() -> None:
    boxes = np.array([[BOX], [np.zeros(4)]])
    classes = np.array([[0], [-1]])
    answers = tflite(np.array([[BOX], [BOX]]), [[0], [0]], [[0.6], [0.9]])
    assert ap(answers, boxes, classes, 0.5) == pytest.approx(0.5)
    found = detection.mean_ap(detection.read(answers), boxes, classes, (0.5,))
    assert found(np.array([1.0, 0.0])) == pytest.approx(1)
    assert found(np.array([0.0, 1.0])) is None


def test_the_count_and_nothings_are_respected() -> None:
    boxes, classes = np.array([[BOX]]), np.array([[0]])
    answers = tflite(np.array([[AWAY, BOX]]), [[0, 0]], [[0.9, 0.8]])
    assert ap(answers, boxes, classes, 0.5) == pytest.approx(0.5)
    answers["d:3"] = np.ones(1, np.float32)  # only the first is meant
    assert ap(answers, boxes, classes, 0.5) == 0


def test_names_tell_scores_from_classes_and_so_do_their_values() -> None:
    boxes = np.array([[BOX, AWAY]], np.float32)
    classes, scores = np.array([[2, 3]], np.float32), np.array([[0.9, 0.8]], np.float32)
    named = {"scores": scores, "classes": classes, "boxes": boxes}
    swapped = {"a": boxes, "b": scores, "c": classes}
    for answers in (named, swapped):
        found = detection.read(answers)
        assert found.classes.tolist() == [[2, 3]]
        assert found.scores[0] == pytest.approx([0.9, 0.8])


def test_rows_of_six_are_corners_score_and_class() -> None:
    rows = np.array([[[*BOX, 0.9, 2], [*AWAY, 0, 0]]], np.float32)
    found = detection.read({"out": rows})
    assert found.classes.tolist() == [[2, -1]]
    assert found.scores[0, 1] == -np.inf


def test_what_must_be_decoded_first_is_refused_with_what_is_understood() -> None:
    raw = {"raw_outputs/box_encodings": np.zeros((1, 1917, 4)), "scores": np.zeros((1, 1917, 91))}
    with pytest.raises(DataInvalid, match=r"scores \(1, 1917, 91\).*can be scored from boxes \(1, k, 4\)"):
        detection.read(raw)
    with pytest.raises(DataInvalid, match=r"\(1, 8400, 84\)"):
        detection.read({"out": np.zeros((1, 8400, 84))})
    assert detection.read({"out": np.zeros((1, 300, 6))}).boxes.shape == (1, 300, 4)


def test_the_metrics_of_the_task_are_the_two_of_coco() -> None:
    assert [m.name for m in metrics.of_task("detection")] == ["map", "map50"]
