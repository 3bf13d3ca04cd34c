"""A model on trial that hangs in the daemon's own process: the way back is stored, and the process ends."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import KEY, build

from edge_agent.agent import Agent
from edge_agent.device import config
from edge_agent.device.home import Home
from edge_agent.doubt.lineup import Settled
from edge_agent.errors import ModelHung
from edge_agent.inference.engine import Engine
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.inference.source import FolderSource, Nothing, Sample
from edge_agent.settings import Settings
from edge_agent.updates import installer, local
from edge_agent.updates.health import Rules
from edge_agent.updates.slots import Event, Fact, Held, Phase, Slot
from edge_agent.updates.store import Store
from edge_agent.updates.transitions import step
from edge_contracts.bundle import open_bundle


def test_a_hang_on_trial_is_gone_back_from_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, inputs = Home(tmp_path / "home"), tmp_path / "inputs"
    inputs.mkdir()
    np.save(inputs / "x.npy", np.zeros((4, 4), np.float32))
    config.trust(home, KEY.public)
    (tmp_path / "1.bundle").write_bytes(build(version="1"))
    second = open_bundle(build(version="2"))
    local.install(home, tmp_path / "1.bundle")
    installer.place(home, second, Slot.B)  # staged, as a stop in good order on trial leaves it
    store = Store(home)
    store.save(step(store.slots, Event.STAGED, Fact(held=Held(second.digest)))[0])
    monkeypatch.setattr("edge_agent.updates.health.STUCK_S", 0.3)
    done = threading.Event()
    source = FolderSource(inputs, loop=True)

    def answered(settled: Settled, sample: Sample) -> None:
        if (
            settled.serving.bundle == second.digest
        ):  # in the inference thread, like a runtime that does not return
            done.wait(60)

    agent = Agent(home, Settings(health=Rules(window_s=600)), source, answered)
    try:
        with pytest.raises(ModelHung, match="hangs: one inference has not ended in"):
            agent.run()
    finally:
        done.set()
        agent.engine.stop()  # it would go on reading files for as long as the tests run
    slots = Store(home).slots
    assert slots.phase is Phase.IDLE
    assert slots.active is Slot.A
    assert second.digest not in {held.bundle for held in slots.held.values()}


class Blocks:
    """Gives one input whose answering does not end before it is let go."""

    def __init__(self) -> None:
        self.given, self.go = threading.Event(), threading.Event()

    def next(self, now_s: float) -> Nothing:
        self.given.set()
        self.go.wait(60)
        return Nothing(60.0)


def test_whoever_asks_the_inference_thread_does_not_wait_for_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.updates.health.STUCK_S", 0.3)
    source = Blocks()
    engine = Engine(source)
    opened = open_bundle(build())
    opened.extract(tmp_path / "bundle")
    engine.switch(Serving.begin(opened.digest, Session.open(tmp_path / "bundle", opened.manifest), False))
    engine.start()
    try:
        assert source.given.wait(60)
        with pytest.raises(ModelHung, match="one inference has not ended in"):
            engine.cut(trial=False)
    finally:
        source.go.set()
        engine.stop()
