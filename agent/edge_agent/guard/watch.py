"""Looking on while a session answers: a second try after an error, and word of what goes wrong.

Runs in the inference thread, around every inference; what is to be done is the agent's thread's to say
(`warden.py`). When the model must not go on, `tripped` is set and the engine takes no more inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InferenceFailed, InputRefused, RuntimeLost
from edge_agent.guard.ladder import Event
from edge_agent.inference.session import Answer, Session

Arrays = Mapping[str, NDArray[Any]]
IN_A_ROW = 3  # inputs that fail one after the other, until it is the model's fault
MAX_SUSPECTS = 16
HELD_S = 3600.0  # against an input; as long as resets count against a runtime (`ladder.py`)


@dataclass(frozen=True)
class Trouble:
    """Something went wrong with a session.

    Args:
        event: For the ladder. ERROR is one that a second try has cured.
        code, detail: Of the error.
        took_s: How long the second try took.
        by_input: Whether the input is to blame, and not the model.
    """

    session: Session
    event: Event
    code: str
    detail: str
    took_s: float = 0.0
    by_input: bool = False


class Suspects:
    """Inputs during which a process was lost: the second time in a row it is the input's fault.

    A process may die for reasons of its own, such as the system's want of memory, and an input that is the
    same again and again, such as a dark picture, is then at hand each time. So one that has been answered
    since is no suspect any more, and nothing is held against an input for longer than an hour.

    Attributes:
        seen: By digest, losses in a row and when the last one was; empty as a rule.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        """Begin without any."""
        self._now_s = now_s
        self.seen: dict[bytes, tuple[int, float]] = {}

    def add(self, inputs: Arrays) -> bool:
        """Remember one; whether it was one before."""
        self._forget()
        digest = _digest(inputs)
        count = self.seen.pop(digest, (0, 0.0))[0] + 1
        self.seen[digest] = count, self._now_s()
        while len(self.seen) > MAX_SUSPECTS:
            del self.seen[next(iter(self.seen))]
        return count > 1

    def refuse(self, inputs: Arrays) -> bytes | None:
        """See that an input is not one that loses the runtime each time.

        Returns:
            For `clear`, when it has been answered; None while nothing is suspected, and nothing worked out.

        Raises:
            InputRefused: It is.
        """
        if not self.seen:
            return None
        self._forget()
        digest = _digest(inputs)
        if self.seen.get(digest, (0, 0.0))[0] > 1:
            raise InputRefused("loses-runtime", "this input has crashed or hung the runtime twice in a row")
        return digest

    def clear(self, digest: bytes | None) -> None:
        """An input was answered."""
        if digest is not None:
            self.seen.pop(digest, None)

    def _forget(self) -> None:
        oldest = self._now_s() - HELD_S
        self.seen = {digest: found for digest, found in self.seen.items() if found[1] > oldest}


class Watch:
    """Around one session.

    Args:
        report: Called in the inference thread; must not wait. None for nobody.
        suspects: Shared by all sessions of an agent.
    """

    def __init__(
        self,
        session: Session,
        report: Callable[[Trouble], None] | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        """Begin to look."""
        self._session, self._report = session, report
        self._suspects = suspects or Suspects()
        self._in_a_row = 0
        self.tripped = False

    def infer(self, inputs: Arrays) -> Answer:
        """Answer a batch; as `Session.infer`.

        Raises:
            InputRefused: Also one that has lost the runtime twice in a row, or that there is no memory for.
            InferenceFailed: After a second try, where the runtime lives in a child process.
        """
        suspected = self._suspects.refuse(inputs) if self._suspects.seen else None
        try:
            answer = self._session.infer(inputs)
        except MemoryError:  # the request's own error: neither the model nor its runtime is at fault
            raise InputRefused("no-memory", "there is no memory to answer this input now") from None
        except RuntimeLost as error:
            self._lost(inputs, error)
            raise
        except InferenceFailed as error:
            answer = self._again(inputs, error)
        self._in_a_row = 0
        if suspected is not None:  # nearly never; a call is not worth it
            self._suspects.clear(suspected)
        return answer

    def _again(self, inputs: Arrays, error: InferenceFailed) -> Answer:
        """The same once more, where that may help: a CPU fails on the same input again."""
        if self._session.child is None:
            self._failed(error)
            raise error
        began_s = monotonic()
        try:
            answer = self._session.infer(inputs)
        except RuntimeLost as second:
            self._lost(inputs, second)
            raise
        except InferenceFailed as second:
            self._failed(second)
            raise
        self._tell(Event.ERROR, error, monotonic() - began_s)
        return answer

    def _lost(self, inputs: Arrays, error: RuntimeLost) -> None:
        self.tripped = self._report is not None
        self._tell(Event.LOST, error, by_input=self._suspects.add(inputs))

    def _failed(self, error: InferenceFailed) -> None:
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            self._in_a_row = 0
            self.tripped = self._report is not None
            self._tell(Event.REPEATED, error)

    def _tell(
        self, event: Event, error: InferenceFailed, took_s: float = 0.0, by_input: bool = False
    ) -> None:
        if self._report is not None:
            self._report(Trouble(self._session, event, error.code, str(error), took_s, by_input))


def _digest(inputs: Arrays) -> bytes:
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(inputs):
        hasher.update(name.encode())
        hasher.update(np.ascontiguousarray(inputs[name]).tobytes())
    return hasher.digest()
