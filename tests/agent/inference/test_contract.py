"""What the tensor contract lets in, flags and refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.inference.contract import ContractCheck
from edge_contracts.manifest import TensorSpec

PICTURE = ContractCheck([TensorSpec(name="image", shape=(1, 2, 2), value_range=(0, 10))])
TWO = ContractCheck([TensorSpec(name="a", shape=(1, 3)), TensorSpec(name="b", shape=(1, 2), dtype="int32")])


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize("name", ["image", "x"])
def test_a_models_only_input_may_be_called_x(name: str) -> None:
    checked, flagged = PICTURE({name: ones(5, 2, 2)})
    assert checked["image"].shape == (5, 2, 2)
    assert flagged == {}


def test_labels_beside_the_inputs_are_left_out() -> None:
    assert PICTURE({"x": ones(2, 2, 2), "y": np.array([1, 0])})[0].keys() == {"image"}


def test_an_input_called_y_is_an_input() -> None:
    check = ContractCheck([TensorSpec(name="x", shape=(1, 1)), TensorSpec(name="y", shape=(1, 1))])
    assert check({"x": ones(1, 1), "y": ones(1, 1)})[0].keys() == {"x", "y"}


def test_several_inputs_come_out_in_the_contracts_order() -> None:
    checked, _ = TWO({"b": np.ones((4, 2), np.int32), "a": ones(4, 3)})
    assert list(checked) == ["a", "b"]


@pytest.mark.parametrize(
    ("inputs", "code", "text"),
    [
        ({}, "names", "found inputs none, expected 'image'"),
        ({"picture": ones(1, 2, 2)}, "names", "'picture'.*expected 'image'"),
        ({"image": ones(1, 2, 2), "z": ones(1, 1)}, "names", "'z'"),
        ({"image": ones(2, 2)}, "shape", r"\(2, 2\), expected \(n, 2, 2\)"),
        ({"image": ones(1, 4)}, "shape", "expected"),
        ({"image": ones(0, 2, 2)}, "shape", "n >= 1"),
        ({"image": np.array(1, np.float32)}, "shape", "expected"),
        ({"image": np.ones((1, 2, 2), np.uint8)}, "dtype", "uint8, expected float32"),
        ({"image": np.ones((1, 2, 2), np.complex64)}, "dtype", "complex64"),
        ({"image": np.array([[["a", "b"], ["c", "d"]]])}, "dtype", "expected float32"),
        ({"image": np.full((1, 2, 2), 1e300)}, "not-finite", "sample 0"),  # infinite in float32
    ],
)
def test_what_the_contract_does_not_allow_is_refused(inputs: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(InputRefused, match=text) as refusal:
        PICTURE(inputs)
    assert refusal.value.code == code


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_sample_with_a_number_that_is_none_is_named(value: float) -> None:
    x = ones(6, 2, 2)
    x[4, 1, 0] = value
    with pytest.raises(InputRefused, match="sample 4") as refusal:
        PICTURE({"x": x})
    assert refusal.value.code == "not-finite"


def test_other_widths_of_the_same_kind_of_number_are_taken() -> None:
    assert PICTURE({"x": np.ones((1, 2, 2), np.float64)})[0]["image"].dtype == np.float32
    assert PICTURE({"x": np.ones((1, 2, 2), np.float16)})[0]["image"].dtype == np.float32
    wide: dict[str, NDArray[Any]] = {"a": ones(1, 3), "b": np.array([[1, 2]], np.int64)}
    assert TWO(wide)[0]["b"].dtype == np.int32


def test_an_integer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputRefused, match="int64, expected int32"):
        TWO({"a": ones(1, 3), "b": np.array([[1, 1 << 40]])})


def test_floats_are_not_rounded_to_integers() -> None:
    with pytest.raises(InputRefused, match="float32, expected int32"):
        TWO({"a": ones(1, 3), "b": ones(1, 2)})


def test_inputs_with_different_numbers_of_samples_are_refused() -> None:
    with pytest.raises(InputRefused, match="'a' 2, 'b' 3"):
        TWO({"a": ones(2, 3), "b": np.ones((3, 2), np.int32)})


def test_values_far_outside_the_calibrated_range_are_flagged_by_sample() -> None:
    x = np.full((4, 2, 2), 5, np.float32)
    x[1, 0, 0] = 19.9  # an outlier within one width of the range is ordinary
    x[2, 0, 0] = 255  # a picture that nobody scaled
    x[3, 1, 1] = -10.1
    assert PICTURE({"x": x})[1] == {"out-of-range": 2}


def test_without_a_calibrated_range_nothing_is_flagged() -> None:
    check = ContractCheck([TensorSpec(name="a", shape=(1, 1))])
    assert check({"a": np.array([[3e38]], np.float32)})[1] == {}


def test_infinity_is_refused_even_beyond_the_largest_range() -> None:
    check = ContractCheck([TensorSpec(name="a", shape=(1, 1), value_range=(-3e38, 3e38))])
    with pytest.raises(InputRefused, match="sample 0"):
        check({"a": np.array([[np.inf]], np.float32)})


def test_truth_values_pass_as_they_are() -> None:
    check = ContractCheck([TensorSpec(name="a", shape=(1, 2), dtype="bool")])
    assert check({"a": np.array([[True, False]])})[0]["a"].tolist() == [[True, False]]
