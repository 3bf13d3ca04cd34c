"""Which samples become golden inputs, and how they are filed."""

from __future__ import annotations

import numpy as np

from edge_contracts.arrays import read_npz
from edge_convert import golden


def test_a_classifiers_golden_inputs_come_from_every_class_surest_first() -> None:
    scores = np.array(
        [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3], [0.99, 0.01], [0.45, 0.55]], np.float32
    )
    # two wanted: the surest of class 0 is sample 4, the only one of class 1 is sample 5
    assert golden.choose({"y": scores}, "classification", 2).tolist() == [4, 5]
    assert golden.choose({"y": scores}, "classification", 3).tolist() == [0, 4, 5]


def test_other_models_get_samples_from_the_whole_file() -> None:
    outputs = {"y": np.zeros((100, 3), np.float32)}
    assert golden.choose(outputs, "other", 4).tolist() == [0, 33, 66, 99]


def test_fewer_samples_than_wanted_are_all_taken() -> None:
    assert golden.choose({"y": np.eye(3, dtype=np.float32)}, "classification", 16).tolist() == [0, 1, 2]
    assert golden.choose({"y": np.eye(3, dtype=np.float32)}, "other", 16).tolist() == [0, 1, 2]


def test_the_archive_files_inputs_and_expected_outputs_by_artifact() -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 4), np.float32)
    content = golden.archive({"a/b:0": x}, {"int8": {"y": y}})
    assert sorted(read_npz(content)) == ["expected/int8/y", "input/a/b:0"]
    assert golden.archive({"a/b:0": x}, {"int8": {"y": y}}) == content


def test_large_inputs_make_fewer_golden_samples_and_never_none() -> None:
    assert golden.how_many({"x": np.zeros((30, 8, 8, 1), np.float32)}) == 16
    assert golden.how_many({"x": np.zeros((30, 256, 256, 1), np.float32)}) == 8  # 2 MiB / 256 KiB
    assert golden.how_many({"x": np.zeros((30, 640, 640, 3), np.float32)}) == 4
