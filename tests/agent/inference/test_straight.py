"""The straight way takes what needs nothing said of it, with the general way's codes, and leaves all else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.inference.binding import InputBinder
from edge_agent.inference.contract import ContractCheck
from edge_agent.inference.straight import Straight
from edge_contracts.features import row_moments
from edge_contracts.manifest import Binding, TensorSpec

LARGE, SMALL = (1, 16, 16, 12), (1, 6)
PICTURE = {"dtype": "int8", "scale": 1 / 255, "zero_point": -128}


def way(
    shape: tuple[int, ...],
    bound: dict[str, Any],
    value_range: tuple[float, float] | None = (0, 1),
    **spec: Any,
) -> tuple[Straight | None, InputBinder, ContractCheck]:
    stated = TensorSpec.model_validate({"name": "x", "shape": shape, "value_range": value_range, **spec})
    binding = Binding.model_validate(
        {"name": "x", "tensor": "t", "dtype": "float32", "shape": shape, **bound}
    )
    binder = InputBinder(stated, binding)
    return Straight.of(stated, "t", binder), binder, ContractCheck([stated])


def straight(shape: tuple[int, ...] = LARGE, bound: dict[str, Any] = PICTURE, **more: Any) -> Straight:
    made, _, _ = way(shape, bound, **more)
    assert made is not None
    return made


def picture(shape: tuple[int, ...] = LARGE, low: float = 0, high: float = 1) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)


def test_it_asks_for_one_plain_input() -> None:
    assert way(LARGE, {})[0] is not None
    assert way((1, 2, 3, 4), {"shape": (1, 4, 2, 3), "perm": (0, 3, 1, 2)})[0] is None
    assert way(SMALL, {"dtype": "int32", "scale": 0.1})[0] is None
    assert way(SMALL, {"dtype": "int32"}, None, dtype="int32")[0] is None
    assert way(SMALL, {}, checks={"constant": "flag"})[0] is None


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 2.0), (0.0, 255.0)])
@pytest.mark.parametrize("zero_point", [-128, 61, 0])
def test_codes_are_the_general_ways(shape: tuple[int, ...], low: float, high: float, zero_point: int) -> None:
    bound = {"dtype": "int8", "scale": (high - low) / 60, "zero_point": zero_point}
    made, binder, _ = way(shape, bound, (low, high))
    assert made is not None
    taken = 0
    for shift in (0.0, 0.1 * (high - low), 0.6 * (high - low), low - high):
        x = picture(shape, low, high) + np.float32(shift)
        expected = binder(x)[0].copy()
        ready = made(x)
        if ready is not None:
            taken += 1
            assert ready[0]["t"].dtype == expected.dtype
            assert np.array_equal(ready[0]["t"], expected)
    assert taken


def test_a_scale_of_one_is_not_divided_by_and_gives_the_same_codes() -> None:
    made, binder, _ = way(LARGE, {"dtype": "int8", "scale": 1.0, "zero_point": -128}, (0, 255))
    assert made is not None
    x = picture(high=255)
    x.flat[:256] = np.arange(256) - 0.5 * (np.arange(256) % 2)  # ties among them
    ready = made(x)
    assert ready is not None
    assert np.array_equal(ready[0]["t"], binder(x)[0])


def test_floats_pass_as_they_are() -> None:
    x = picture()
    ready = straight(bound={})(x)
    assert ready is not None
    assert ready[0]["t"] is x


WRONG: dict[str, Any] = {
    "not a number": np.nan,
    "not a number, of the other sign": np.array(0xFFC00000, np.uint32).view(np.float32),
    "infinite": np.inf,
    "infinite below": -np.inf,
    "beyond the codes": 1.1,
    "far": 1e6,
    "below the codes": -0.1,
    "far below": -1e6,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), (0.5, 1)])
@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_one_number_that_something_must_be_said_of_is_seen_wherever_it_is(
    shape: tuple[int, ...], value_range: tuple[float, float], name: str
) -> None:
    made = straight(shape, value_range=value_range)
    x = picture(shape, 0.6, 1)
    assert made(x) is not None
    for place in (0, x.size // 2, x.size - 1):
        wrong = x.copy()
        wrong.flat[place] = WRONG[name]
        assert made(wrong) is None


def test_a_zero_below_zero_does_not_hide_what_is_too_large() -> None:
    x = picture()
    x.flat[3], x.flat[4] = -0.0, 7.0  # by its bits -0.0 is beyond 7
    assert straight()(x) is None
    x.flat[4] = 1.0
    made, _, check = way(LARGE, PICTURE)
    assert made is not None
    assert made(x) is None, "left to the general way, which answers it"
    assert check.look({"x": x}).flagged == {}


@pytest.mark.parametrize(
    "x",
    [
        picture((2, *LARGE[1:])),
        picture(LARGE[1:]),
        picture().astype(np.float64),
        (255 * picture()).astype(np.uint8),
        picture()[:, ::-1],
        picture().astype(">f4"),
    ],
    ids=["two", "no-batch-axis", "float64", "uint8", "strides", "byte-order"],
)
def test_what_is_not_one_sample_of_the_contract_is_left_to_the_general_way(x: NDArray[Any]) -> None:
    assert straight()(x) is None


def test_moments_are_those_of_the_sample_where_they_are_wanted() -> None:
    made, x = straight(), picture()
    wanted = iter((True, False))
    before = made(x)
    made.monitor(lambda: next(wanted))
    first, second = made(x), made(x)
    assert before is not None and first is not None and second is not None
    assert before[1] == {}
    assert first[1] == {"x": row_moments(x.reshape(-1))}
    assert second[1] is None
    small = straight(SMALL)
    small.monitor(lambda: True)
    ready = small(picture(SMALL))
    assert ready is not None
    assert ready[1] == {}, "small inputs wait and are counted many at once"
