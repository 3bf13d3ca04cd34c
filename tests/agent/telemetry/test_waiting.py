"""Samples that wait are worked out as each would be by itself, whatever is written into them meanwhile."""

from __future__ import annotations

import agent_bundles
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.telemetry.waiting import BUFFER_ROWS, WaitingSamples
from edge_contracts.bundle import open_bundle
from edge_contracts.features import LARGE, features, row_moments
from edge_contracts.manifest import Manifest, TensorSpec

SMALL, PICTURE = 7, 2 * LARGE


def manifest(size: int, task: str = "classification") -> Manifest:
    made = open_bundle(agent_bundles.build("float32")).manifest
    return made.model_copy(update={"inputs": (TensorSpec(name="x", shape=(1, size)),), "task": task})


def samples(size: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(size)
    x = rng.uniform(-1, 3, (count, size)).astype(np.float32)
    return x, rng.uniform(0, 1, (count, 3)).astype(np.float32)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("size", [SMALL, PICTURE])
def test_samples_that_wait_give_the_numbers_that_each_gives_alone(
    size: int, task: str, is_known: bool
) -> None:
    x, y = samples(size, 20)
    waiting = WaitingSamples(manifest(size, task))
    same = np.empty((1, size), np.float32)
    for row in range(20):
        same[0] = x[row]
        moments = {"x": row_moments(same[0])} if is_known and size == PICTURE else {}
        assert not waiting.add({"x": same}, {"scores": y[row : row + 1]}, 1, moments)
        same[:] = np.nan  # the caller's next sample
    found = waiting.take()
    for row in range(20):
        alone = features({"x": x[row : row + 1]}, {"scores": y[row : row + 1]}, task)
        assert found.keys() == alone.keys()
        assert {name: values[row] for name, values in found.items()} == {
            name: values[0] for name, values in alone.items()
        }


@pytest.mark.parametrize("size", [SMALL, PICTURE])
def test_what_was_taken_waits_no_more(size: int) -> None:
    x, y = samples(size, 4)
    waiting = WaitingSamples(manifest(size))
    waiting.add({"x": x}, {"scores": y}, 4, {})
    assert {values.size for values in waiting.take().values()} == {4}
    assert waiting.take() == {}
    waiting.add({"x": x[:1]}, {"scores": y[:1]}, 1, {})
    assert {values.size for values in waiting.take().values()} == {1}


def test_it_says_when_enough_wait() -> None:
    x, y = samples(SMALL, BUFFER_ROWS)
    waiting = WaitingSamples(manifest(SMALL))
    assert waiting.most == BUFFER_ROWS
    said = [waiting.add({"x": x[r : r + 1]}, {"scores": y[r : r + 1]}, 1, {}) for r in range(BUFFER_ROWS)]
    assert said == [False] * (BUFFER_ROWS - 1) + [True]


def test_answers_that_are_large_do_not_wait_in_numbers() -> None:
    made = manifest(SMALL, "segmentation")
    made = made.model_copy(update={"outputs": (TensorSpec(name="mask", shape=(1, 512, 512)),)})
    assert WaitingSamples(made).most == 1


def test_a_large_input_that_is_left_out_is_not_counted_and_all_else_is() -> None:
    x, y = samples(PICTURE, 5)
    waiting = WaitingSamples(manifest(PICTURE))
    for row in range(5):
        moments = {"x": row_moments(x[row])} if row == 1 else None
        waiting.add({"x": x[row : row + 1]}, {"scores": y[row : row + 1]}, 1, moments)
    found = waiting.take()
    assert found["input:x:mean"].tolist() == [row_moments(x[1])[0]]
    assert {found[name].size for name in found if name.startswith("output:")} == {5}
    waiting.add({"x": x[:1]}, {"scores": y[:1]}, 1, None)
    assert {name.split(":")[0] for name in waiting.take()} == {"output"}
