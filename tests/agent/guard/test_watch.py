"""One failure is asked again, several are the model's fault, and an input that kills twice is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import agent_bundles
import chaos
import numpy as np
import pytest

from edge_agent.errors import InferenceFailed, InputRefused, RuntimeCrashed
from edge_agent.guard.ladder import Event
from edge_agent.guard.watch import HELD_S, IN_A_ROW, Suspects, Trouble, Watch
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_contracts.bundle import open_bundle

Command = Callable[[str], None]
ROW = {"x": agent_bundles.GOLDEN_X[:1]}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    return chaos.install(tmp_path, monkeypatch)


@pytest.fixture
def session(tmp_path: Path, command: Command) -> Iterator[Session]:
    bundle = open_bundle(chaos.bundle())
    bundle.extract(tmp_path / "bundle")
    opened = Session.open(tmp_path / "bundle", bundle.manifest, Choice(Option("float32", "chaos", "TPU")))
    yield opened
    opened.close()


@pytest.fixture
def told() -> list[Trouble]:
    return []


def test_an_error_that_does_not_come_again_costs_nothing_but_time(
    session: Session, command: Command, told: list[Trouble]
) -> None:
    watch = Watch(session, told.append)
    command("error 1")
    assert watch.infer(ROW).outputs["scores"].shape == (1, 3)
    assert [(t.event, t.code) for t in told] == [(Event.ERROR, "inference-failed")]
    assert told[0].took_s > 0
    assert not watch.tripped


def test_inputs_that_fail_in_a_row_trip_it_and_one_that_is_answered_begins_anew(
    session: Session, command: Command, told: list[Trouble]
) -> None:
    watch = Watch(session, told.append)

    def fail(times: int) -> None:
        command("error")
        for _ in range(times):
            with pytest.raises(InferenceFailed, match="says no"):
                watch.infer(ROW)
        command("")

    fail(IN_A_ROW - 1)
    watch.infer(ROW)
    fail(IN_A_ROW - 1)
    assert (told, watch.tripped) == ([], False)
    watch.infer(ROW)
    fail(IN_A_ROW)
    assert [t.event for t in told] == [Event.REPEATED]
    assert watch.tripped


def test_a_crash_trips_it_at_once_and_the_second_by_the_same_input_is_that_inputs_fault(
    session: Session, command: Command, told: list[Trouble]
) -> None:
    suspects = Suspects()
    other = {"x": agent_bundles.GOLDEN_X[1:2]}
    for inputs in (ROW, other, ROW):
        watch = Watch(session, told.append, suspects)
        command("crash 1")
        with pytest.raises(RuntimeCrashed):
            watch.infer(inputs)
        assert watch.tripped
        session._model._restarts = type(session._model._restarts)()  # type: ignore[attr-defined]
    assert [(t.event, t.by_input) for t in told] == [
        (Event.LOST, False), (Event.LOST, False), (Event.LOST, True),
    ]  # fmt: skip
    watch = Watch(session, told.append, suspects)
    with pytest.raises(InputRefused, match="crashed or hung the runtime twice") as refusal:
        watch.infer(ROW)
    assert refusal.value.code == "loses-runtime"
    assert watch.infer(other).samples == 1
    assert watch.infer({"x": np.zeros((1, 4), np.float32)}).samples == 1


def test_an_input_that_is_answered_or_an_hour_old_is_no_suspect() -> None:
    now = [0.0]
    suspects = Suspects(lambda: now[0])
    other = {"x": ROW["x"] + 1}
    assert suspects.refuse(ROW) is None, "nothing is worked out while nothing is suspected"
    for _ in range(3):  # a process that is killed while a dark picture is asked about, again and again
        assert not suspects.add(ROW)
        suspects.clear(suspects.refuse(ROW))
    assert not suspects.add(other)
    suspects.clear(suspects.refuse(ROW))  # another's answer says nothing of it
    assert suspects.add(other)
    now[0] = HELD_S - 1
    with pytest.raises(InputRefused):
        suspects.refuse(other)
    now[0] = HELD_S + 1
    suspects.refuse(other)
    assert suspects.refuse(other) is None


def test_with_nobody_to_tell_it_never_trips(session: Session, command: Command) -> None:
    watch = Watch(session)
    command("crash 1")
    with pytest.raises(RuntimeCrashed):
        watch.infer(ROW)
    assert not watch.tripped
    assert watch.infer(ROW).samples == 1, "the child is started again"
