"""A source that says the same again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest

from edge_agent.doubt.lineup import Lineup
from edge_agent.errors import InputRefused
from edge_agent.inference.request import Request
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.input.stuck import MAX_CLIENTS, StuckWatch
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Checks


def watch(stuck: str = "flag", after: int = 3) -> StuckWatch:
    checks = Checks.model_validate({"stuck_after": after, "stuck": stuck})
    return StuckWatch(TensorSpec(name="pixels", shape=(1, 300)), checks, only=True)


def frame(seed: int = 0) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).normal(size=(1, 300)).astype(np.float32)}


def test_the_third_same_frame_is_stuck_and_another_one_begins_anew() -> None:
    seen = watch()
    told = [seen.see("camera", frame(i)) for i in (0, 0, 0, 0, 1, 0, 0, 0)]
    assert told == [0, 0, 1, 1, 0, 0, 0, 1]


def test_one_different_bit_is_another_frame() -> None:
    seen = watch()
    assert [seen.see("camera", frame()) for _ in range(2)] == [0, 0]
    other = frame()
    other["x"][0, 299] = np.nextafter(other["x"][0, 299], np.float32(9))
    assert seen.see("camera", other) == 0
    assert seen.see("camera", frame()) == 0


def test_a_client_that_writes_into_the_same_array_is_not_fooled() -> None:
    seen, buffer = watch(), frame()
    for i in range(5):
        buffer["x"][0, 5] = i
        assert seen.see("camera", buffer) == 0


def test_clients_do_not_disturb_each_other() -> None:
    seen = watch()
    told = [seen.see(client, frame(seed)) for _ in range(3) for client, seed in (("camera", 0), ("phone", 1))]
    assert told == [0, 0, 0, 0, 1, 1]


def test_a_batch_is_so_many_frames_in_a_row() -> None:
    same = np.repeat(frame()["x"], 4, axis=0)
    assert watch().see("camera", {"pixels": same}) == 2


def test_refusal_says_how_often() -> None:
    seen = watch("refuse")
    assert [seen.see("camera", frame()) for _ in range(2)] == [0, 0]
    for times in (3, 4):
        with pytest.raises(InputRefused, match=f"{times} times in a row") as error:
            seen.see("camera", frame())
        assert error.value.code == "stuck"


def test_only_so_many_clients_are_remembered() -> None:
    seen = watch(after=2)
    for i in range(MAX_CLIENTS + 1):
        seen.see(f"client {i}", frame())
    assert seen.see(f"client {MAX_CLIENTS}", frame()) == 1
    assert seen.see("client 0", frame()) == 0  # forgotten


def test_what_is_refused_for_another_reason_is_left_to_that() -> None:
    seen = watch()
    assert seen.see("camera", {"other": np.zeros((1, 3))}) == 0
    assert seen.see("camera", {"x": np.zeros(())}) == 0


# --- in the agent


@pytest.mark.parametrize("stuck", ["flag", "refuse"])
def test_stuck_inputs_are_counted_in_the_window(tmp_path: Path, stuck: str) -> None:
    spec = {"name": "x", "shape": (1, 4), "checks": {"stuck_after": 2, "stuck": stuck}}
    bundle = open_bundle(agent_bundles.build(manifest={"inputs": [spec]}))
    bundle.extract(tmp_path / "bundle")
    serving = Serving.begin(bundle.digest, Session.open(tmp_path / "bundle", bundle.manifest), trial=False)
    x = {"x": agent_bundles.GOLDEN_X[:1]}
    lineup = Lineup()
    assert lineup.answer(serving, Request(x, "camera")).answer.flagged == {}
    if stuck == "refuse":
        with pytest.raises(InputRefused, match="2 times in a row"):
            lineup.answer(serving, Request(x, "camera"))
    else:
        assert lineup.answer(serving, Request(x, "camera")).answer.flagged == {"stuck": 1}
    assert lineup.answer(serving, Request(x, "another")).answer.flagged == {}
    window = serving.cut()
    serving.session.close()
    assert (window.refused, window.flagged) == (
        ({"stuck": 1}, {}) if stuck == "refuse" else ({}, {"stuck": 1})
    )


def test_golden_inputs_asked_again_and_again_are_not_a_stuck_source(tmp_path: Path) -> None:
    spec = {"name": "x", "shape": (1, 4), "checks": {"stuck_after": 2, "stuck": "refuse"}}
    bundle = open_bundle(agent_bundles.build(manifest={"inputs": [spec]}))
    bundle.extract(tmp_path / "bundle")
    session = Session.open(tmp_path / "bundle", bundle.manifest)
    for _ in range(4):
        assert session.infer({"x": agent_bundles.GOLDEN_X[:1]}).flagged == {}
    session.close()
