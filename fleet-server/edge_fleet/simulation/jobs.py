"""Dry runs that a server makes: one at a time, in a process of its own that gives way to everything else.

A result is kept in memory only, the last few of them: whoever wants it for good asks for the JSON. A dry
run of a large fleet takes minutes; one that takes too long is ended, and the command line has no limit.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe

from typing_extensions import TypedDict

from edge_fleet.errors import Conflict, FleetError, NotFound, RequestInvalid
from edge_fleet.model import Instant
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.simulation.defects import Kind
from edge_fleet.simulation.description import FleetDescription
from edge_fleet.simulation.study import CannotReplay, Study, selected, study

KEPT = 20
LONGEST_S = 300.0
MOST_RUNS, MOST_SIZES = 500, 12


@dataclass(frozen=True)
class Request:
    """What is asked.

    Args:
        text: The plan as it was written, for the page that asked.
        sizes: Of the defect; none for the usual ones.
        on: Share of the devices that show it.
        runs: Of each size, and of a good release.
    """

    plan: RolloutPlan
    fleet: FleetDescription
    kind: Kind = Kind.ERRORS
    sizes: tuple[float, ...] = ()
    on: float = 1.0
    runs: int = 20
    seed: int = 0
    text: str = ""


@dataclass(frozen=True)
class DryRun:
    """One of them.

    Args:
        took_s: Until it ended.
        study: None while it is at work, and when it failed.
        error: Why it failed; "" otherwise.
    """

    id: str
    request: Request
    actor: str
    began_ms: int
    took_s: float | None = None
    study: Study | None = None
    error: str = ""


@dataclass
class DryRuns:
    """Those of one server."""

    longest_s: float = LONGEST_S
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _found: OrderedDict[str, DryRun] = field(default_factory=OrderedDict)

    def begin(self, request: Request, actor: str, now_ms: int, ended: Callable[[str], None]) -> str:
        """Start one; its id.

        Args:
            ended: Called with the id when it is over, from another thread.

        Raises:
            RequestInvalid: Nothing would come of the plan, or too much is asked for.
            Conflict: Another one is at work.
        """
        _check(request)
        with self._lock:
            if any(one.took_s is None for one in self._found.values()):
                raise Conflict(
                    "another dry run is at work; one is made at a time, try again when it has ended"
                )
            made = DryRun(secrets.token_hex(6), request, actor, now_ms)
            self._found[made.id] = made
            while len(self._found) > KEPT:
                self._found.popitem(last=False)
        threading.Thread(target=self._run, args=(made, ended), daemon=True, name="dry-run").start()
        return made.id

    def get(self, name: str) -> DryRun:
        """One that was begun.

        Raises:
            NotFound: There is none, or it is too long ago.
        """
        with self._lock:
            found = self._found.get(name)
        if found is None:
            raise NotFound(f"no dry run {name!r:.40}; the last {KEPT} since the server's start are kept")
        return found

    def _run(self, made: DryRun, ended: Callable[[str], None]) -> None:
        began = time.monotonic()
        try:
            found, error = _apart(made.request, self.longest_s), ""
        except FleetError as refused:
            found, error = None, str(refused)
        over = replace(made, took_s=time.monotonic() - began, study=found, error=error)
        with self._lock:
            if made.id in self._found:
                self._found[made.id] = over
        ended(made.id)


def _check(request: Request) -> None:
    if not 1 <= request.runs <= MOST_RUNS:
        raise RequestInvalid(
            f"{request.runs} runs of each size, expected 1 to {MOST_RUNS} (more: on the command line)"
        )
    if len(request.sizes) > MOST_SIZES or not all(0 < size <= 100 for size in request.sizes):
        raise RequestInvalid(f"sizes of a defect are at most {MOST_SIZES} numbers over 0 to 100")
    if not 0 < request.on <= 1:
        raise RequestInvalid(f"a defect shows on a share over 0 to 1 of the devices, not on {request.on:g}")
    try:
        selected(request.plan, request.fleet)
    except CannotReplay as error:
        raise RequestInvalid(str(error)) from None


def _apart(request: Request, longest_s: float) -> Study:
    """Make it in another process, which ends with this one.

    Raises:
        Conflict: It takes too long, or the process died.
    """
    context = get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, request), daemon=True, name="dry-run")
    worker.start()
    theirs.close()
    try:
        if not ours.poll(longest_s):
            raise Conflict(
                f"it was not through after {longest_s:g} s; ask for fewer runs, or make it elsewhere: "
                "edge-fleet rollout plan FILE --simulate"
            )
        found = ours.recv()
    except EOFError:
        raise Conflict("the process of the dry run died; the server's log may say why") from None
    finally:
        worker.terminate()
        worker.join()
        ours.close()
    assert isinstance(found, Study), "a dry run comes to a study"
    return found


def _work(answer: Pipe, request: Request) -> None:
    os.nice(10)  # telemetry comes first
    sizes: Sequence[float] = request.sizes
    found = study(
        request.plan, request.fleet, request.kind, sizes, request.on, request.runs, request.seed, workers=1
    )
    answer.send(found)


class DryRunAnswer(TypedDict):
    """A dry run.

    Args:
        by: Who asked for it.
        took_s: Seconds until it ended; null while it is at work.
        error: Why it failed; "" otherwise.
        study: What came of it; null while it is at work, and when it failed.
    """

    id: str
    by: str
    began_ms: Instant
    took_s: float | None
    error: str
    study: Study | None


def as_dict(found: DryRun) -> DryRunAnswer:
    """For the API."""
    return {
        "id": found.id,
        "by": found.actor,
        "began_ms": found.began_ms,
        "took_s": found.took_s,
        "error": found.error,
        "study": found.study,
    }
