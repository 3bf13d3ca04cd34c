"""Which samples become golden inputs, what is demanded of each, and how they are filed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_contracts.arrays import read_npz
from edge_convert import golden
from edge_convert.golden import Chosen
from edge_convert.graph import Array


def rows(*firsts: float) -> dict[str, Array]:
    """Two-class scores by the first one."""
    return {"y": np.array([[first, 1 - first] for first in firsts], np.float32)}


def numbered(count: int) -> dict[str, Array]:
    """Samples that differ by their number alone."""
    return {"x": np.arange(count, dtype=np.float32).reshape(count, 1)}


def chosen(source: dict[str, Array], noise: float, count: int, task: Any = "classification") -> Chosen:
    """With one artifact that is off by some noise on every score."""
    artifact = {name: values + np.array([noise, -noise], np.float32) for name, values in source.items()}
    return golden.choose(numbered(len(source["y"])), source, [artifact], task, count)


def test_every_class_has_its_surest_sample() -> None:
    scores = np.full((40, 4), 0.01, np.float32)
    winners = np.arange(40) % 3  # the source never says class 3
    scores[np.arange(40), winners] = 0.5 + 0.01 * np.arange(40)
    made = golden.choose(numbered(40), {"y": scores}, [{"y": scores}], "classification", 8)
    # the last ones of each class lead by most: samples 39, 37 and 38
    assert {37, 38, 39} <= set(made.indices.tolist())
    assert len(set(made.indices.tolist())) == len(made.indices) == 8


def test_close_calls_are_among_them_and_are_called_so() -> None:
    source = rows(0.99, 0.98, 0.97, 0.96, 0.01, 0.02, 0.03, 0.52, 0.47, 0.55)
    made = chosen(source, 0.05, 8)
    kinds = dict(zip(made.indices.tolist(), made.kinds, strict=True))
    # noise 0.05, half as much again, twice: a margin below 0.15 may flip; two of eight may be such
    assert [i for i, kind in kinds.items() if kind == "boundary"] == [7, 8]
    assert kinds[4] == "sure"


def test_a_sample_that_the_artifact_answers_otherwise_is_not_sure() -> None:
    source = rows(0.9, 0.9, 0.9, 0.9, 0.9, 0.1)
    artifact = rows(0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
    made = golden.choose(numbered(6), source, [artifact], "classification", 6)
    assert made.kinds[5] == "boundary"


def test_noise_of_one_artifact_is_enough_to_doubt_a_sample() -> None:
    source = rows(0.99, 0.98, 0.97, 0.01, 0.02, 0.7)
    quiet, loud = (rows(*(f + d for f in (0.99, 0.98, 0.97, 0.01, 0.02, 0.7))) for d in (0.0, 0.2))
    alone = golden.choose(numbered(6), source, [quiet], "classification", 6)
    both = golden.choose(numbered(6), source, [quiet, loud], "classification", 6)
    assert (alone.kinds[5], both.kinds[5]) == ("sure", "boundary")


def test_something_is_demanded_even_of_a_model_that_is_never_sure() -> None:
    made = chosen(rows(*(0.5 + 0.001 * i for i in range(20))), 0.3, 8)
    assert made.kinds.count("sure") >= golden.FEWEST


def test_the_rest_lies_far_from_what_is_chosen() -> None:
    inputs = {"x": np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.9], [10.0]], np.float32)}
    same = {"y": np.zeros((7, 3), np.float32)}
    made = golden.choose(inputs, same, [same], "other", 3)
    # first the one nearest the mean (5.0), then both ends
    assert made.indices.tolist() == [0, 3, 6]
    assert made.kinds == ("sure",) * 3


def test_answers_without_classes_are_sure_where_the_artifact_is_near() -> None:
    source = {"y": np.ones((8, 2), np.float32)}
    artifact = {"y": source["y"].copy()}
    artifact["y"][6:] += 0.5  # 6 dB: below the 16 of a sure one
    made = golden.choose(numbered(8), source, [artifact], "reconstruction", 8)
    assert made.kinds == ("sure",) * 6 + ("boundary",) * 2


@pytest.mark.parametrize("task", ["classification", "other"])
def test_fewer_samples_than_wanted_are_all_taken(task: Any) -> None:
    eye = {"y": np.eye(3, dtype=np.float32)}
    assert golden.choose(numbered(3), eye, [eye], task, 16).indices.tolist() == [0, 1, 2]


def test_the_choice_is_the_same_every_time() -> None:
    scores = {"y": np.random.RandomState(0).dirichlet(np.ones(5), 200).astype(np.float32)}
    first, second = (golden.choose(numbered(200), scores, [scores], "classification") for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    assert first.kinds == second.kinds


def test_large_inputs_make_fewer_golden_samples_and_never_none() -> None:
    def count(*shape: int) -> int:
        return golden.how_many({"x": np.zeros(shape, np.float32)}, {"y": np.zeros((30, 2))}, "other")

    assert count(30, 8, 8, 1) == 16
    assert count(30, 256, 256, 1) == 8  # 2 MiB / 256 KiB
    assert count(30, 640, 640, 3) == 4


def test_many_classes_make_more_golden_samples() -> None:
    small = {"x": np.zeros((500, 4), np.float32)}
    assert golden.how_many(small, {"y": np.eye(500, 30)}, "classification") == 40  # 30 are three quarters
    assert golden.how_many(small, {"y": np.eye(500)}, "classification") == golden.MOST


@pytest.mark.parametrize(
    ("ratios", "limit"),
    [([], 10.0), ([35.5], 25.0), ([35.5, 24.9], 14.0), ([12.0], 10.0), ([None], 30.0), ([None, 33.0], 23.0)],
)
def test_the_limit_leaves_a_factor_of_ten_to_what_kernels_differ_by(
    ratios: list[float | None], limit: float
) -> None:
    assert golden.limit_db(ratios) == limit


def test_the_archive_files_inputs_and_expected_outputs_by_artifact() -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)
    content = golden.archive({"a/b:0": x}, {"int8": {"y": y}})
    assert sorted(read_npz(content)) == ["expected/int8/y", "input/a/b:0"]
    assert golden.archive({"a/b:0": x}, {"int8": {"y": y}}) == content
