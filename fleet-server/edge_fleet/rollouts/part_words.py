"""The parts of a stage in words: which of how many, what its devices do, and how far they are. Pure.

One place says it, for the API, the command line and the console. A stage of one part has nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_fleet.assignment import FAILED, State
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Event, Phase

# (what its devices do, what one has come to when it is done, the state that says so)
WORDS: Mapping[Part, tuple[str, str, State]] = {
    Part.READY: ("staged and held", "ready", State.READY),
    Part.SHADOW: ("run as a shadow", "running it as a shadow", State.SHADOW),
    Part.SWITCH: ("switched", "confirmed", State.CONFIRMED),
}
# Of a first part, what is waited for when its devices have come so far
_WATCHED: Mapping[Part, str] = {Part.SHADOW: "shadows are watched", Part.SWITCH: "being watched"}


@dataclass(frozen=True)
class Progress:
    """How far the devices of a stage are with its part.

    Args:
        number: 1 or 2.
        does: What its devices do in it.
        done: Devices that have come to its end.
        total: Devices that were given it, without those that were left out.
        needed: The quorum, of them.
        failed: Devices that refused it, or stopped.
    """

    part: Part
    number: int
    does: str
    done: int
    total: int
    needed: int
    failed: int
    text: str


def place(first: Part, part: Part) -> str:
    """Such as "part 1 of 2: staged and held"; "" for stages of one part."""
    if first is Part.SWITCH:
        return ""
    return f"part {_number(part)} of 2: {WORDS[part][0]}"


def tell(
    first: Part, part: Part, phase: Phase, quorum: float, states: Mapping[State, int]
) -> Progress | None:
    """Where the current stage of a rollout stands; None for stages of one part.

    Args:
        states: Its devices, counted by where their newest assignment for it stands.
    """
    if first is Part.SWITCH:
        return None
    does, come, state = WORDS[part]
    done, total = states.get(state, 0), sum(states.values())
    # a device whose shadow runs, or that has it ready, is on its way in the second part; in the first, one
    # that was switched straight has come to the end
    if part is not Part.SWITCH:
        done += states.get(State.CONFIRMED, 0)
    failed = sum(states.get(one, 0) for one in FAILED)
    needed = math.ceil(quorum * total)
    text = f"{place(first, part)}, {done} of {total} {come}, quorum {needed}"
    if failed:
        text += f", {failed} failed"
    if phase is Phase.BAKING and part in _WATCHED:
        text += f"; {_WATCHED[part]}"
    return Progress(part, _number(part), does, done, total, needed, failed, text)


def of_steps(first: Part, events: Iterable[Event]) -> list[str]:
    """The part that a rollout was at after each step, oldest first; "" where nobody knows."""
    found, part = [], None
    for event in events:
        if event in (Event.STARTED, Event.ADVANCED):
            part = first
        elif event is Event.SWITCHED:
            part = Part.SWITCH
        found.append("" if part is None else place(first, part))
    return found


def _number(part: Part) -> int:
    return 2 if part is Part.SWITCH else 1
