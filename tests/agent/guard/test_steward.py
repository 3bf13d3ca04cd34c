"""The ladder in a whole agent, with a real runtime that crashes, hangs and lies on command."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import agent_bundles
import chaos
import numpy as np
import pytest
from agent_bundles import KEY
from agent_fleet import until
from click.testing import CliRunner, Result

from edge_agent.agent import Agent
from edge_agent.cli import main
from edge_agent.device.home import Home
from edge_agent.doubt.lineup import Settled
from edge_agent.errors import NoModel
from edge_agent.guard import retrials
from edge_agent.guard.restarts import Restarts
from edge_agent.inference.request import Request
from edge_agent.inference.source import Nothing, Sample
from edge_agent.settings import Settings
from edge_agent.updates.health import Rules
from edge_agent.updates.trial import run_trial

Command = Callable[[str], None]
ROW = agent_bundles.GOLDEN_X[:1]
TPU, CPU = "chaos", "litert"


class Inputs:
    """Gives inputs for ever with a pause between two, and counts."""

    def __init__(self) -> None:
        self.given = self.asked = 0
        self.paused = False

    def next(self, now_s: float) -> Sample | Nothing:
        self.asked += 1
        if self.paused or self.asked % 2:
            return Nothing(0.01)
        self.given += 1
        return Sample({"x": agent_bundles.GOLDEN_X[self.given % 16][None]}, str(self.given))


class Events(logging.Handler):
    """What the agent tells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.module == "agent":
            self.found.append((record.getMessage(), getattr(record, "code", "")))

    def named(self, name: str) -> list[str]:
        """The codes of all events of that name."""
        return [code for found, code in self.found if found == name]

    def ladder(self) -> list[str]:
        """The steps, in order."""
        return [f"{name}:{code}" for name, code in self.found if name.startswith("ladder-")]

    def were(self, expected: list[str], name: str = "ladder") -> None:
        """Those of that name are these: the first answer by another may be there before the word of it."""

        def found() -> list[str]:
            return self.ladder() if name == "ladder" else self.named(name)

        until(lambda: len(found()) >= len(expected), f"{name}: {expected}")
        assert found() == expected


class Device:
    """A home, and an agent in a thread of this process."""

    def __init__(self, folder: Path, events: Events) -> None:
        self.folder, self.events = folder, events
        self.home = Home(folder / "home")
        self.inputs = Inputs()
        self.answers: list[tuple[str, str]] = []  # runtime, bundle version
        self.agent: Agent | None = None
        self._thread: Thread | None = None
        (folder / "public.pem").write_bytes(KEY.public.pem)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--home", str(self.home.folder)])

    def install(self, content: bytes) -> None:
        path = self.folder / "one.bundle"
        path.write_bytes(content)
        done = self.run("install", str(path), "--trust", str(self.folder / "public.pem"))
        assert done.exit_code == 0, done.output

    def start(self, **settings: Any) -> None:
        def answered(settled: Settled, _: Sample) -> None:
            session = settled.serving.session
            self.answers.append((session.choice.option.runtime, session.manifest.version))

        self.agent = Agent(self.home, Settings(**settings), self.inputs, answered, Random(0))
        self._lock = self.home.locked()
        self._lock.__enter__()
        self._thread = Thread(target=self.agent.run, name="agent")
        self._thread.start()

    def stop(self) -> None:
        if self.agent is not None and self._thread is not None:
            self.agent.stop()
            self._thread.join(30)
            self._lock.__exit__(None, None, None)
            self.agent = None

    def answers_by(self, runtime: str, version: str = "1") -> None:
        """Wait for five more answers, all of them by this one."""

        def last() -> bool:
            return self.answers[-5:] == [(runtime, version)] * 5

        before = len(self.answers)
        until(lambda: len(self.answers) >= before + 5 and last(), f"answers by {runtime} {version}")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").output)
        return found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return chaos.install(tmp_path, monkeypatch)


@pytest.fixture
def device(tmp_path: Path, command: Command) -> Iterator[Device]:
    events = Events()
    log = logging.getLogger("edge_agent")
    log.addHandler(events)
    level, log.level = log.level, logging.INFO
    made = Device(tmp_path, events)
    yield made
    command("")
    made.stop()
    log.removeHandler(events)
    log.level = level


def test_a_crash_costs_one_input_and_the_next_are_answered_by_a_new_process(
    device: Device, command: Command
) -> None:
    device.install(chaos.bundle())
    device.start()
    device.answers_by(TPU)
    command("crash 1")
    until(lambda: device.events.ladder(), "a step")
    device.answers_by(TPU)
    device.inputs.paused = True
    device.stop()
    device.events.were(["ladder-reset:passed"])
    assert device.inputs.given - len(device.answers) == 1, "more or less than one input was lost"
    assert set(device.answers) == {(TPU, "1")}


def test_an_accelerator_that_goes_on_crashing_gives_way_to_the_cpu_and_stays_out_over_a_restart(
    device: Device, command: Command
) -> None:
    device.install(chaos.bundle())
    device.start()
    device.answers_by(TPU)
    command("crash")
    device.answers_by(CPU)
    device.events.were(["ladder-reset:runtime-crashed", "ladder-next:passed"])
    device.events.were(["runtime-crashed"], "quarantined")
    listed = device.run("quarantine", "list")
    assert "chaos/TPU since 20" in listed.output
    assert "runtime-crashed" in listed.output
    assert "chaos/TPU" in device.run("status").output
    device.stop()
    command("")
    device.answers.clear()
    device.start()
    device.answers_by(CPU)
    assert (TPU, "1") not in device.answers
    entry = device.status()["guard"]["entries"][0]
    assert (entry["subject"], entry["code"]) == ("chaos/TPU", "runtime-crashed")
    # a person lifts it: golden inputs are asked in a child, then it answers again
    lifted = device.run("quarantine", "lift", "chaos/TPU")
    assert "lifted: chaos/TPU" in lifted.output
    device.answers_by(TPU)
    device.events.were(["operator", "passed"], "quarantine-lifted")
    again = device.run("quarantine", "lift", "chaos/TPU")
    assert again.exit_code == 1
    assert "is not in quarantine" in again.stderr


def test_what_is_lifted_and_fails_again_comes_back_in(device: Device, command: Command) -> None:
    device.install(chaos.bundle())
    device.start()
    command("crash")
    device.answers_by(CPU)
    command("wrong")
    assert device.run("quarantine", "lift", "all").exit_code == 0
    until(lambda: len(device.events.named("quarantined")) == 2, "it is back")
    device.events.were(["runtime-crashed", "golden-mismatch"], "quarantined")
    assert device.status()["guard"]["entries"][0]["failed"] == 1
    device.answers_by(CPU)


def test_wrong_answers_are_found_by_the_daily_golden_inputs_and_nothing_wrong_follows(
    device: Device, command: Command
) -> None:
    device.install(chaos.bundle())
    device.start(golden_s=0.5)
    device.answers_by(TPU)
    command("wrong")
    until(lambda: device.events.named("golden-mismatch"), "the lie is found")
    device.answers_by(CPU)
    device.events.were(["ladder-reset:golden-mismatch", "ladder-next:passed"])
    assert device.status()["guard"]["entries"][0]["code"] == "golden-mismatch"


def test_without_another_way_the_last_good_bundle_answers_and_without_one_nothing(
    device: Device, command: Command
) -> None:
    device.install(agent_bundles.build(version="1"))
    device.install(agent_bundles.build(version="2", artifact={"runtimes": ("chaos",)}))
    device.start()
    device.answers_by(TPU, "2")
    command("crash")
    device.answers_by(CPU, "1")
    device.events.were(
        ["ladder-reset:runtime-crashed", "ladder-next:runtime-unavailable", "ladder-smaller:passed"]
    )
    assert device.agent is not None
    opened = device.agent._engine.serving
    assert opened is not None
    assert opened.session.choice.fallback.startswith("the last good bundle, because of runtime-crashed: ")
    device.stop()
    command("")
    assert device.run("quarantine", "lift", "all").exit_code == 0
    device.install(agent_bundles.build(version="3", artifact={"runtimes": ("chaos",)}))
    for slot in ("a", "b"):  # nothing to go back to
        path = device.home.folder / "slots" / slot / "manifest.json"
        if '"version":"2"' in path.read_text():
            path.write_text("{}")
    device.answers.clear()
    device.start()
    device.answers_by(TPU, "3")
    command("crash")
    until(lambda: device.events.named("abstaining"), "it abstains")
    assert device.agent is not None
    with pytest.raises(NoModel, match=r"nothing here can be trusted.*SIGSEGV"):
        device.agent._engine.submit(Request({"x": ROW}))
    assert device.status()["guard"]["rung"] == "abstain"
    command("")
    assert device.run("quarantine", "lift", "all").exit_code == 0
    device.answers_by(TPU, "3")
    assert device.status()["guard"]["rung"] == "serving"


def test_a_crash_on_trial_fails_the_trial_and_the_bundle_before_answers(
    device: Device, command: Command
) -> None:
    device.install(chaos.bundle(version="1"))
    device.start(health=Rules(window_s=600.0, inferences=5))
    device.answers_by(TPU, "1")
    device.install(chaos.bundle(version="2"))
    device.answers_by(TPU, "2")
    command("crash 1")
    device.answers_by(TPU, "1")
    device.events.were(["runtime-crashed"], "rolled-back")
    assert device.events.ladder() == []
    assert device.events.named("quarantined") == []


def test_an_accelerator_that_was_taken_during_the_trial_is_tried_again_afterwards(
    device: Device, command: Command
) -> None:
    command("refuse")  # as one does that another process holds
    device.install(chaos.bundle())
    device.start()
    device.answers_by(CPU)
    until(lambda: device.events.named("better-way-failed"), "it is tried")
    device.stop()
    command("")
    device.start()
    device.answers_by(TPU)
    device.events.were(["runtime-unavailable"], "better-way-failed")
    device.events.were(["passed"], "better-way")
    assert device.events.named("quarantined") == []


def test_an_accelerator_that_must_be_reset_again_and_again_is_quarantined(
    device: Device, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.guard.warden.RESETS", Restarts(limit=1, first_pause_s=0.0))
    device.install(chaos.bundle())
    device.start()
    device.answers_by(TPU)
    command("crash 1")
    until(lambda: len(device.events.ladder()) == 1, "a reset")
    device.answers_by(TPU)
    command("crash 1")
    device.answers_by(CPU)
    device.events.were(["ladder-reset:passed", "ladder-next:passed"])
    device.events.were(["runtime-crashed"], "quarantined")


def test_time_in_quarantine_and_a_new_driver_are_reasons_to_try_again(
    device: Device, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.install(chaos.bundle())
    device.start()
    command("crash")
    device.answers_by(CPU)
    device.stop()
    command("")
    monkeypatch.setenv("EDGEFLEET_CHAOS_VERSION", "2.0")
    device.start()
    device.answers_by(TPU)
    device.events.were(["new-software"], "quarantine-retry")
    command("crash")
    device.answers_by(CPU)
    command("")
    monkeypatch.setattr(retrials, "COUNTED_S", 0.0)
    monkeypatch.setattr("edge_agent.guard.quarantine.FIRST_RETRY_S", 0.1)
    device.answers_by(TPU)
    assert device.status()["guard"]["entries"] == []


def test_a_driver_that_changes_while_it_serves_has_the_golden_inputs_asked_in_a_new_process(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.install(chaos.bundle())
    device.start()
    device.answers_by(TPU)
    monkeypatch.setenv("EDGEFLEET_CHAOS_VERSION", "2.0")
    monkeypatch.setattr(retrials, "LOOK_S", 0.0)
    until(device.events.ladder, "it is opened anew")
    device.answers_by(TPU)
    device.stop()
    device.events.were(["ladder-reset:passed"])  # once, and not at every look
    device.events.were(["new-software"], "software-changed")


def test_another_runtime_than_last_time_is_tried_in_a_child_first(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.install(agent_bundles.build())
    device.start()
    device.answers_by(CPU)
    device.stop()
    path = device.home.folder / "guard.json"
    stored = json.loads(path.read_text())
    stored["software"]["litert"] = "0.1"
    path.write_text(json.dumps(stored))
    tried: list[str] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        tried.append("litert")
        return run_trial(*arguments, **named)

    monkeypatch.setattr("edge_agent.guard.steward.run_trial", counted)
    device.start()
    device.answers_by(CPU)
    device.stop()
    device.start()
    device.answers_by(CPU)
    assert tried == ["litert"], "once after the change, not at every start"
    device.events.were(["new-software"], "software-changed")
    assert np.all([a == (CPU, "1") for a in device.answers])
