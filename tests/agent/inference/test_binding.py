"""Between the contract's space and the artifact's: worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.inference.binding import InputBinder, OutputBinder, artifact_shape, contract_shape
from edge_contracts.manifest import Binding, TensorSpec


def binding(shape: tuple[int, ...], **fields: Any) -> Binding:
    return Binding.model_validate({"name": "t", "tensor": "t", "dtype": "float32", "shape": shape, **fields})


def binder(bound: Binding) -> InputBinder:
    """For a contract's tensor of the shape that the permutation came from."""
    perm = bound.perm or tuple(range(len(bound.shape)))
    spec = TensorSpec(name="t", shape=tuple(bound.shape[axis] for axis in np.argsort(perm)))
    return InputBinder(spec, bound)


def test_codes_are_rounded_half_to_even_shifted_and_saturated() -> None:
    bind = binder(binding((1, 6), dtype="int8", scale=0.5, zero_point=10))
    # value / 0.5: 0, 1.5 -> 2, 2.5 -> 2, -0.6 -> -1; plus 10; 1000 and -1000 saturate
    values = np.array([[0.0, 0.75, 1.25, -0.3, 500.0, -500.0]], np.float32)
    assert bind(values).tolist() == [[[10, 12, 12, 9, 127, -128]]]
    assert bind(values).dtype == np.int8


def test_unsigned_codes_saturate_at_their_own_limits() -> None:
    bind = binder(binding((1, 2), dtype="uint8", scale=1.0, zero_point=128))
    assert bind(np.array([[-200.0, 200.0]], np.float32)).tolist() == [[[0, 255]]]


def test_answers_are_shifted_and_scaled_back() -> None:
    spec = TensorSpec(name="t", shape=(1, 3))
    unbind = OutputBinder(spec, binding((1, 3), dtype="int8", scale=0.25, zero_point=-128))
    values = unbind(np.array([[[-128, -124, 127]]], np.int8))
    assert values.tolist() == [[0.0, 1.0, 63.75]]  # (127 + 128) / 4
    assert values.dtype == np.float32


def test_an_input_is_transposed_to_channels_first() -> None:
    x = np.arange(2 * 2 * 3 * 4, dtype=np.float32).reshape(2, 2, 3, 4)  # two samples, NHWC
    bound = binding((1, 4, 2, 3), perm=(0, 3, 1, 2))
    codes = binder(bound)(x)
    assert codes.shape == (2, 1, 4, 2, 3)
    assert codes.flags["C_CONTIGUOUS"]
    # channel 3 of pixel (1, 2) of sample 1
    assert codes[1, 0, 3, 1, 2] == x[1, 1, 2, 3]
    assert artifact_shape(TensorSpec(name="t", shape=(1, 2, 3, 4)), bound) == (1, 4, 2, 3)


def test_an_output_is_transposed_to_channels_last() -> None:
    bound = binding((1, 4, 2, 3), perm=(0, 2, 3, 1))
    codes = np.arange(2 * 24, dtype=np.float32).reshape(2, 1, 4, 2, 3)
    values = OutputBinder(TensorSpec(name="t", shape=(1, 2, 3, 4)), bound)(codes)
    assert values.shape == (2, 2, 3, 4)
    assert values[1, 1, 2, 3] == codes[1, 0, 3, 1, 2]
    assert contract_shape(bound) == (1, 2, 3, 4)


def test_there_and_back_over_any_permutation_is_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(3, 5, 6, 7)).astype(np.float32)
    spec = TensorSpec(name="t", shape=(1, 5, 6, 7))
    for perm in [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 3, 2)]:
        there = binding(tuple(spec.shape[axis] for axis in perm), perm=perm)
        back = binding(there.shape, perm=tuple(int(axis) for axis in np.argsort(perm)))
        assert np.array_equal(OutputBinder(spec, back)(binder(there)(x)), x)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_that_are_not_quantized_pass_unchanged(dtype: str) -> None:
    tokens = np.array([[7, 8, 9]], dtype)
    assert np.array_equal(binder(binding((1, 3), dtype=dtype))(tokens)[0], tokens)


def test_a_single_sample_gets_the_codes_that_it_gets_in_a_batch() -> None:
    x = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    bind = binder(binding((1, 6), dtype="int8", scale=0.02, zero_point=-3))
    whole = bind(x)
    alone = [bind(x[row : row + 1]) for row in range(5)]
    # kept side by side: a later call must not write into what an earlier one gave
    assert np.array_equal(np.concatenate(alone), whole)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scale", [0.5, 1 / 255, 0.02, 0.5847029089927673])
@pytest.mark.parametrize("shift", [0, 1, 83, 128])
def test_one_sample_gets_its_codes_in_the_quick_way_too(dtype: str, scale: float, shift: int) -> None:
    limits = np.iinfo(dtype)
    zero_point = int(limits.min) + shift
    bind = binder(binding((1, 4096), dtype=dtype, scale=scale, zero_point=zero_point))
    rng = np.random.default_rng(shift)
    real = (rng.integers(limits.min, limits.max, 4096, endpoint=True) - zero_point) * np.float32(scale)
    halves = (np.floor(real / np.float32(scale)) + 0.5) * np.float32(scale)  # every second one a tie
    for values in (real, halves, real + np.float32(0.3 * scale)):
        x = values.astype(np.float32)[np.newaxis]
        ends = float(x.min()), float(x.max())
        expected = bind(x)[0]
        found = bind.row(x, ends)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert np.array_equal(found, expected)


def test_one_sample_beyond_the_dtypes_ends_saturates() -> None:
    bind = binder(binding((1, 3), dtype="int8", scale=0.5, zero_point=11))
    x = np.array([[-500.0, 0.75, 500.0]], np.float32)  # 0.75 / 0.5 = 1.5, half to even is 2, plus 11
    assert bind.row(x, (-500.0, 500.0)).tolist() == [[-128, 13, 127]]


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -128), ("int8", 5), ("uint8", 3)])
def test_every_code_means_the_same_alone_as_in_a_batch(dtype: str, zero_point: int) -> None:
    codes = np.arange(256, dtype=np.uint8).view(dtype).reshape(1, 256)
    spec = TensorSpec(name="t", shape=(1, 256))
    unbind = OutputBinder(spec, binding((1, 256), dtype=dtype, scale=0.1, zero_point=zero_point))
    assert np.array_equal(unbind.row(codes), unbind(codes[np.newaxis]))
    assert unbind.row(codes).dtype == np.float32
