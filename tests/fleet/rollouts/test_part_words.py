"""The parts of a stage in words, worked by hand, and where people read them."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file

from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_fleet.api.answers import to_json
from edge_fleet.assignment import State
from edge_fleet.rollouts.cli import _lines
from edge_fleet.rollouts.part_words import of_steps, place, tell
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Event, Phase
from edge_fleet.rollouts.view import shown


def text(first: Part, part: Part, phase: Phase, states: dict[State, int], quorum: float = 0.9) -> str:
    found = tell(first, part, phase, quorum, states)
    assert found is not None
    return found.text


def test_what_is_brought_first_is_staged_and_held_until_the_quorum() -> None:
    states = {State.READY: 37, State.DOWNLOADING: 2, State.UNREACHABLE: 1}
    assert text(Part.READY, Part.READY, Phase.RUNNING, states) == (
        "part 1 of 2: staged and held, 37 of 40 ready, quorum 36"
    )


def test_after_the_switch_it_is_what_has_confirmed_that_counts() -> None:
    states = {State.CONFIRMED: 12, State.READY: 24, State.ROLLED_BACK: 1}
    assert text(Part.READY, Part.SWITCH, Phase.RUNNING, states) == (
        "part 2 of 2: switched, 12 of 37 confirmed, quorum 34, 1 failed"
    )


def test_shadows_that_run_are_watched() -> None:
    states = {State.SHADOW: 9, State.REFUSED: 1}
    assert text(Part.SHADOW, Part.SHADOW, Phase.BAKING, states) == (
        "part 1 of 2: run as a shadow, 9 of 10 running it as a shadow, quorum 9, 1 failed; "
        "shadows are watched"
    )


def test_a_stage_of_one_part_has_nothing_to_say() -> None:
    assert tell(Part.SWITCH, Part.SWITCH, Phase.RUNNING, 0.9, {State.CONFIRMED: 1}) is None
    assert place(Part.SWITCH, Part.SWITCH) == ""
    assert of_steps(Part.SWITCH, [Event.STARTED, Event.SETTLED]) == ["", ""]


def test_every_step_of_the_timeline_has_its_part_and_where_nobody_knows_none() -> None:
    one, two = "part 1 of 2: staged and held", "part 2 of 2: switched"
    steps = [Event.STARTED, Event.PAUSED, Event.SWITCHED, Event.SETTLED, Event.ADVANCED, Event.ABORTED]
    assert of_steps(Part.READY, steps) == [one, one, two, two, one, one]
    assert of_steps(Part.READY, [Event.PAUSED, Event.SWITCHED]) == ["", two]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol("a", "b", "c", "d", knows=(Knows.HOLD, Knows.SHADOW), runs="1")
    built.publish("1")
    built.publish("2")
    return built


def said(fleet: Fleet, rollout: str) -> str:
    with fleet.store.read() as connection:
        answer = to_json(shown(connection, rollout, fleet.now_ms))
    return "\n".join(_lines(orjson.loads(answer)))


def test_the_command_says_it_of_the_stage_and_in_the_history(fleet: Fleet) -> None:
    rollout = fleet.begin("2", "100%", kind="blue-green", quorum=0.75)
    for device in ("a", "b"):
        fleet.say(device, Told.READY)
    fleet.pass_time(1)
    told = said(fleet, rollout)
    assert "running, stage 1 of 1 (part 1 of 2: staged and held)" in told
    assert "    part 1 of 2: staged and held, 2 of 4 ready, quorum 3" in told
    assert "started   [stage 1, part 1 of 2: staged and held]" in told
    fleet.say("c", Told.READY)
    fleet.pass_time(1)
    fleet.say("a")
    fleet.report("a", digest("2"))
    told = said(fleet, rollout)
    assert "    part 2 of 2: switched, 1 of 4 confirmed, quorum 3" in told
    assert "switched  [stage 1, part 2 of 2: switched] 3 of 4 devices of the stage have it ready" in told
    fleet.operator.abort(rollout, "anna")
    assert "2: switched, 1 of 4" not in said(fleet, rollout), "what is over is not under way"


def test_the_command_says_it_of_shadows(fleet: Fleet) -> None:
    gates = {"shadow_agreement": 0.9, "install_success": 0.9}
    rollout = fleet.begin("2", "100%", kind="shadow-first", gates=gates)
    fleet.say("a", Told.SHADOW)
    fleet.pass_time(1)
    assert "part 1 of 2: run as a shadow, 1 of 4 running it as a shadow, quorum 4" in said(fleet, rollout)
