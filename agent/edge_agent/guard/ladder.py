"""What is done, step by step, about a model that fails while it serves: a pure state machine.

Each rung costs more than the one before: the same input once more, a new process, another way to run the
same bundle, the bundle before, and at last no answer rather than a wrong one. `warden.py` carries the
steps out and reports them; what is quarantined on the way is `quarantine.py`'s.
"""

from __future__ import annotations

from enum import StrEnum


class Rung(StrEnum):
    """Where the device stands with the model that should answer."""

    SERVING = "serving"  # something answers whose golden inputs agreed when it was opened
    RETRY = "retry"  # the same input once more, in the same open model
    RESET = "reset"  # closed and opened again, golden inputs asked before anybody else
    NEXT = "next"  # the same bundle's next way to run, with its own artifact and golden answers
    SMALLER = "smaller"  # the last good bundle
    ABSTAIN = "abstain"  # nothing answers; requests are told why


class Event(StrEnum):
    """What can happen to it."""

    ERROR = "error"  # the runtime reported an error for one input
    REPEATED = "repeated"  # for several inputs, one after the other
    LOST = "lost"  # its process died or hung, or it cannot be opened
    DISAGREED = "disagreed"  # golden inputs get other answers
    PASSED = "passed"  # it answered; on the rungs that open a model, all golden inputs
    WORN_OUT = "worn-out"  # it was reset so often that another reset is no cure
    EXHAUSTED = "exhausted"  # there is nothing on this rung
    LIFTED = "lifted"  # something that was quarantined has proved itself, or a person says so


# (rung, event) -> next rung. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[Rung, Event], Rung] = {
    (Rung.SERVING, Event.ERROR): Rung.RETRY,
    (Rung.SERVING, Event.REPEATED): Rung.RESET,
    (Rung.SERVING, Event.LOST): Rung.RESET,  # no retry: the input may be what kills it
    (Rung.SERVING, Event.DISAGREED): Rung.RESET,
    (Rung.SERVING, Event.WORN_OUT): Rung.NEXT,
    (Rung.SERVING, Event.LIFTED): Rung.RESET,
    (Rung.RETRY, Event.PASSED): Rung.SERVING,
    (Rung.RETRY, Event.ERROR): Rung.SERVING,  # that input failed; one is no reason to stop
    (Rung.RETRY, Event.REPEATED): Rung.RESET,
    (Rung.RETRY, Event.LOST): Rung.RESET,
    (Rung.RETRY, Event.WORN_OUT): Rung.NEXT,
    (Rung.RESET, Event.PASSED): Rung.SERVING,
    (Rung.RESET, Event.ERROR): Rung.NEXT,
    (Rung.RESET, Event.LOST): Rung.NEXT,
    (Rung.RESET, Event.DISAGREED): Rung.NEXT,
    (Rung.RESET, Event.EXHAUSTED): Rung.SMALLER,  # all that could be reset is quarantined
    (Rung.NEXT, Event.PASSED): Rung.SERVING,
    (Rung.NEXT, Event.ERROR): Rung.NEXT,
    (Rung.NEXT, Event.LOST): Rung.NEXT,
    (Rung.NEXT, Event.DISAGREED): Rung.NEXT,
    (Rung.NEXT, Event.EXHAUSTED): Rung.SMALLER,
    (Rung.SMALLER, Event.PASSED): Rung.SERVING,
    (Rung.SMALLER, Event.ERROR): Rung.ABSTAIN,
    (Rung.SMALLER, Event.LOST): Rung.ABSTAIN,
    (Rung.SMALLER, Event.DISAGREED): Rung.ABSTAIN,
    (Rung.SMALLER, Event.EXHAUSTED): Rung.ABSTAIN,
    (Rung.ABSTAIN, Event.LIFTED): Rung.RESET,
}

AT_REST = frozenset({Rung.SERVING, Rung.ABSTAIN})  # the others are being worked on


class LadderBroken(RuntimeError):
    """An event that cannot happen on a rung: a fault of ours."""


def step(rung: Rung, event: Event) -> Rung:
    """The next rung.

    Raises:
        LadderBroken: The pair is not in the table.
    """
    try:
        return TRANSITIONS[rung, event]
    except KeyError:
        raise LadderBroken(f"{event} on rung {rung}") from None
