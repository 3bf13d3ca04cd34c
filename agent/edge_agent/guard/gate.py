"""Golden inputs while a model serves: daily, one at a time, when no request waits.

Spread over the fleet by jitter and counted by the monotonic clock, so that no jump of the wall clock
starts all of them or none. What a result means is `warden.py`'s; at every start all golden inputs are
asked before the first request (`agent.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random

import numpy as np

from edge_agent.errors import InferenceFailed
from edge_agent.guard.ladder import Event
from edge_agent.guard.warden import Outcome
from edge_agent.inference.golden import GoldenResult, GoldenSet, compare, read_golden
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer
from edge_contracts.errors import ContractError, NoMemory

DAY_S = 86_400.0
SPREAD = 0.1  # of the period, both ways
PATIENCE_S = 60.0  # on a device that is never idle, a golden input waits so long for its turn

WhenIdle = Callable[[Callable[[], Answer], float], "Future[Answer]"]
log = logging.getLogger(__name__)

MISMATCH = "golden-mismatch"


def judged(result: GoldenResult) -> Outcome:
    """What a comparison means for the ladder."""
    if result.passed:
        return Outcome(Event.PASSED, "", f"{result.agree} of {result.total} golden inputs agree")
    return Outcome(Event.DISAGREED, MISMATCH, result.reason)


def ask_all(serving: Serving, folder: Path) -> Outcome:
    """Ask a model that does not answer others yet; the result counts in its first window."""
    session = serving.session
    try:
        golden = read_golden(folder, session.manifest, session.artifact.id)
        found = session.infer_apart(golden.inputs).outputs
    except InferenceFailed as error:
        serving.counter.failed(error.code)
        return Outcome(Event.LOST, error.code, str(error))
    except NoMemory:  # says nothing of the model: no step of the ladder, nothing in quarantine
        raise
    except ContractError as error:
        return Outcome(Event.LOST, error.code, str(error))
    result = compare(golden.expected, found, session.manifest.task, session.manifest.golden)
    serving.counter.asked_golden(result)
    return judged(result)


class GoldenGate:
    """The daily round of one agent; used from its thread.

    Args:
        when_idle: Has something done in the inference thread when nothing waits there, or after so long.
    """

    def __init__(self, when_idle: WhenIdle, random: Random, period_s: float = DAY_S) -> None:
        """Take the parts; `opened` starts the clock."""
        self._when_idle, self._random, self._period_s = when_idle, random, period_s
        self._due_s = float("inf")
        self._serving: Serving | None = None
        self._folder = Path()
        self._golden: GoldenSet | None = None
        self._asked: Future[Answer] | None = None
        self._answers: list[Answer] = []

    def opened(self, serving: Serving | None, folder: Path, now_s: float) -> None:
        """Another model answers, or none; its golden inputs were asked just now."""
        self._serving, self._folder = serving, folder
        self._rest(now_s)

    def tick(self, now_s: float) -> Outcome | None:
        """Go on with the round; what it came to when it has ended now."""
        serving = self._serving
        if serving is None or now_s < self._due_s:
            return None
        session = serving.session
        try:
            if self._golden is None:
                self._golden = read_golden(self._folder, session.manifest, session.artifact.id)
            if self._asked is not None:
                if not self._asked.done():
                    return None
                self._answers.append(self._asked.result())
                self._asked = None
            row = len(self._answers)
            if row < session.manifest.golden.count:
                inputs = {name: values[row : row + 1] for name, values in self._golden.inputs.items()}
                self._asked = self._when_idle(lambda: session.infer(inputs), PATIENCE_S)
                return None
        except (NoMemory, MemoryError):
            log.warning("no memory to ask the golden inputs; they wait for the next time")
            self._rest(now_s)
            return None
        except (InferenceFailed, ContractError) as error:
            self._rest(now_s)
            return Outcome(Event.LOST, error.code, str(error))
        expected = self._golden.expected
        found = {name: np.concatenate([a.outputs[name] for a in self._answers]) for name in expected}
        result = compare(expected, found, session.manifest.task, session.manifest.golden)
        self._rest(now_s)
        serving.counter.asked_golden(result)
        return judged(result)

    def _rest(self, now_s: float) -> None:
        self._golden, self._asked, self._answers = None, None, []
        self._due_s = now_s + self._period_s * self._random.uniform(1 - SPREAD, 1 + SPREAD)
