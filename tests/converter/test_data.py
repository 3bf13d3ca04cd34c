"""Calibration and evaluation data: what is taken, what is refused and how it is dealt out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_contracts.errors import FormatInvalid
from edge_convert.data import (
    InputPort,
    class_labels,
    compare_ranges,
    read_samples,
    split,
)
from edge_convert.errors import DataInvalid

PICTURE = InputPort("pixels", (1, 8, 6, 3), "float32")
TOKENS = InputPort("tokens", (1, 5), "int32")


def pictures(count: int = 20) -> Any:
    return np.random.RandomState(1).rand(count, 8, 6, 3).astype(np.float32)


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "x.npz"
    np.savez(path, **arrays)
    return path


def refusal(folder: Path, *ports: InputPort, minimum: int = 1, **arrays: Any) -> str:
    with pytest.raises(DataInvalid) as caught:
        read_samples(saved(folder, **arrays), ports or (PICTURE,), minimum)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_x_is_the_only_input(tmp_path: Path) -> None:
    samples = read_samples(saved(tmp_path, x=pictures()), (PICTURE,))
    assert list(samples.feeds) == ["pixels"]
    assert len(samples) == 20


def test_an_only_input_may_go_by_its_name(tmp_path: Path) -> None:
    assert len(read_samples(saved(tmp_path, pixels=pictures(7)), (PICTURE,))) == 7


def test_several_inputs_go_by_their_names(tmp_path: Path) -> None:
    tokens = np.arange(100).reshape(20, 5)
    samples = read_samples(saved(tmp_path, pixels=pictures(), tokens=tokens), (PICTURE, TOKENS))
    assert samples.feeds["tokens"].dtype == np.int32


def test_a_missing_array_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    assert refusal(tmp_path, images=pictures()) == "x.npz holds 'images'; expected 'x'"
    message = refusal(tmp_path, PICTURE, TOKENS, x=pictures())
    assert message == "x.npz holds 'x'; expected 'pixels', 'tokens'"


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((8, 6, 3), "x[None]"),
        ((20, 3, 8, 6), "numpy.transpose(x, (0, 2, 3, 1))"),
        ((20, 144), "wants (n, 8, 6, 3)"),
        ((20, 6, 8, 3), "has shape (20, 6, 8, 3)"),
    ],
)
def test_a_wrong_shape_is_refused_with_what_was_expected(
    tmp_path: Path, shape: tuple[int, ...], hint: str
) -> None:
    assert hint in refusal(tmp_path, x=np.random.RandomState(0).rand(*shape).astype(np.float32))


def test_whole_numbers_for_a_float_input_are_refused_not_cast(tmp_path: Path) -> None:
    message = refusal(tmp_path, x=(pictures() * 255).astype(np.uint8))
    assert "has dtype uint8; expected float32" in message
    assert "x / 255" in message


def test_float64_is_cast_and_said(tmp_path: Path) -> None:
    samples = read_samples(saved(tmp_path, x=pictures().astype(np.float64)), (PICTURE,))
    assert samples.feeds["pixels"].dtype == np.float32
    assert any("cast to float32" in note for note in samples.notes)


def test_float_for_an_integer_input_is_refused(tmp_path: Path) -> None:
    assert "takes int32" in refusal(tmp_path, TOKENS, x=np.random.RandomState(0).rand(9, 5))


def test_an_integer_beyond_the_inputs_type_is_refused(tmp_path: Path) -> None:
    assert "beyond int32" in refusal(tmp_path, TOKENS, x=np.arange(45).reshape(9, 5) << 30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_sample(tmp_path: Path, bad: float) -> None:
    x = pictures()
    x[3, 0, 0, 0] = bad
    assert "in 1 samples, the first is sample 3" in refusal(tmp_path, x=x)


def test_values_beyond_any_model_are_refused(tmp_path: Path) -> None:
    assert "values up to" in refusal(tmp_path, x=pictures() * np.float32(1e12))


def test_data_without_variety_are_refused(tmp_path: Path) -> None:
    assert "is 0 everywhere" in refusal(tmp_path, x=np.zeros((20, 8, 6, 3), np.float32))
    assert "the same sample 20 times" in refusal(tmp_path, x=np.repeat(pictures(1), 20, axis=0))
    assert "holds no samples" in refusal(tmp_path, x=pictures()[:0])


def test_too_few_samples_are_refused_with_how_many_are_needed(tmp_path: Path) -> None:
    assert "holds 7 samples; expected 8 or more" in refusal(tmp_path, minimum=8, x=pictures(7))


def test_inputs_of_different_lengths_are_refused(tmp_path: Path) -> None:
    tokens = np.arange(50).reshape(10, 5)
    assert "different numbers" in refusal(tmp_path, PICTURE, TOKENS, pixels=pictures(), tokens=tokens)


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    assert "y holds 7 labels for 20 samples" in refusal(tmp_path, x=pictures(), y=np.zeros(7, int))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = saved(tmp_path, x=np.array([object(), None], dtype=object))
    with pytest.raises(FormatInvalid, match="nothing is unpickled"):
        read_samples(path, (PICTURE,))


def test_arrays_nobody_asked_for_are_noted(tmp_path: Path) -> None:
    samples = read_samples(saved(tmp_path, x=pictures(), names=np.array(["a"])), (PICTURE,))
    assert samples.notes == ("x.npz: not used: names",)


def test_an_array_with_the_name_of_a_group_is_noted_too(tmp_path: Path) -> None:
    columns = {"slice_site": np.arange(4), "site": np.arange(4)}
    samples = read_samples(saved(tmp_path, x=pictures(4), **columns), (PICTURE,))
    assert list(samples.slices) == ["site"] and samples.notes == ("x.npz: not used: site",)


def test_two_files_in_different_ranges_are_refused(tmp_path: Path) -> None:
    small = read_samples(saved(tmp_path, x=pictures()), (PICTURE,))
    raw = read_samples(saved(tmp_path, x=pictures() * np.float32(16)), (PICTURE,))
    with pytest.raises(DataInvalid, match="both must be in the model's own input space"):
        compare_ranges(small, raw)
    compare_ranges(small, small)


def test_an_outlier_does_not_make_two_files_differ(tmp_path: Path) -> None:
    x = pictures()
    plain = read_samples(saved(tmp_path, x=x), (PICTURE,))
    x[0, 0, 0, 0] = 20
    compare_ranges(plain, read_samples(saved(tmp_path, x=x), (PICTURE,)))


@pytest.mark.parametrize("has_evaluation", [False, True])
@pytest.mark.parametrize("count", [8, 9, 100, 1001])
def test_every_sample_has_one_use(count: int, has_evaluation: bool) -> None:
    parts = split(count, has_evaluation)
    together = np.concatenate([parts.ranges, parts.selection, parts.score])
    assert sorted(together) == list(range(count))
    assert min(len(parts.ranges), len(parts.selection)) >= 2
    assert (len(parts.score) == 0) == has_evaluation


def test_the_split_is_the_same_in_every_run() -> None:
    # numpy.random.RandomState(0).permutation(8) = [6 2 1 7 3 0 5 4], frozen by NEP 19
    parts = split(8, has_evaluation=True)
    assert (parts.selection.tolist(), parts.ranges.tolist()) == ([2, 6], [0, 1, 3, 4, 5, 7])


def test_class_numbers_may_be_columns_or_one_hot() -> None:
    assert class_labels(np.array([[2], [0]]), 3, "e").tolist() == [2, 0]
    assert class_labels(np.array([[0, 0, 1], [1, 0, 0]]), 3, "e").tolist() == [2, 0]
    assert class_labels(np.array([2.0, 0.0]), 3, "e").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.array([0, 3]), "classes 0 to 3, the model has 3"),
        (np.array([-1, 2]), "classes -1 to 2"),
        (np.array([0.5, 1]), "not whole numbers"),
        (np.array(["cat", "dog"]), "expected class numbers"),
        (np.array([[0.2, 0.3, 0.5]]), "not one-hot"),
        (np.zeros((2, 2, 2), int), "expected (n,) class numbers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: Any, reason: str) -> None:
    with pytest.raises(DataInvalid) as caught:
        class_labels(labels, 3, "e.npz")
    assert reason in str(caught.value)


def test_columns_that_name_groups_become_slices(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        x=pictures(4),
        slice=np.array([b"day", b"day", b"night", b"day"]),
        slice_site=np.array([3, 3, 12, 3]),
        slice_=np.zeros(4),
    )
    samples = read_samples(path, (PICTURE,))
    assert {k: v.tolist() for k, v in samples.slices.items()} == {
        "slice": ["day", "day", "night", "day"],
        "site": ["3", "3", "12", "3"],
    }
    assert samples.notes == ("x.npz: not used: slice_",)


def test_detection_arrays_are_kept_for_the_task_to_judge(tmp_path: Path) -> None:
    samples = read_samples(saved(tmp_path, x=pictures(4), boxes=np.zeros((4, 1, 4))), (PICTURE,))
    assert list(samples.targets) == ["boxes"] and samples.notes == ()
    boxes = InputPort("boxes", (1, 4), "float32")
    random = np.random.RandomState(0)
    given = random.rand(4, 4).astype(np.float32)
    samples = read_samples(saved(tmp_path, pixels=pictures(4), boxes=given), (PICTURE, boxes))
    assert not samples.targets  # an input of that name is an input


@pytest.mark.parametrize(
    "column, message",
    [
        (np.array(["a", "b"]), r"'slice' has shape \(2,\); expected \(4,\), one group a sample"),
        (np.zeros((4, 2), int), r"'slice' has shape \(4, 2\)"),
        (np.zeros(4), "'slice' has dtype float64; expected strings or whole numbers"),
        (np.array([b"\xff"] * 4), "bytes that are not UTF-8"),
    ],
)
def test_a_column_that_names_no_groups_is_refused(tmp_path: Path, column: Any, message: str) -> None:
    with pytest.raises(DataInvalid, match=message):
        read_samples(saved(tmp_path, x=pictures(4), slice=column), (PICTURE,))


def test_an_identity_is_no_slice(tmp_path: Path) -> None:
    assert "names 201 groups for 201 samples; expected 200 at most" in refusal(
        tmp_path, x=pictures(201), slice=np.arange(201)
    )
