"""A candidate that answers a share of the same inputs, in a process of its own; nobody sees its answers.

The inference thread copies an input and goes on; this thread hands it to the candidate's process
(`guard/isolated.py`, lowest priority) and compares. Whatever the candidate does - crash, hang, eat memory -
happens there. What is over budget is skipped, or the shadow is stopped, and both are reported.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.doubt.lineup import Settled
from edge_agent.doubt.reviewer import describe
from edge_agent.doubt.ring import Head
from edge_agent.doubt.routing import is_chosen
from edge_agent.doubt.shadow_budget import Budget, Purse
from edge_agent.errors import AgentError, InferenceFailed, InputRefused
from edge_agent.guard.isolated import IsolatedModel, Patience
from edge_agent.inference.golden import read_golden, run_golden
from edge_agent.inference.request import Request
from edge_agent.inference.session import Session
from edge_agent.runtimes import registry
from edge_agent.runtimes.choice import Choice
from edge_contracts.errors import ContractError
from edge_contracts.lineup import ShadowCounts
from edge_contracts.manifest import Manifest
from edge_contracts.signing import VerifiedManifest
from edge_contracts.sketch import QuantileSketch, bin_index

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-P", "-m", "edge_agent.doubt.shadow_child")
WAITING = 2  # inputs that wait for the candidate
JOIN_S = 5.0  # a candidate that is just being opened ends by itself, or with the agent
WORST = 3  # most disagreeing inputs that are kept for review ...
EVERY_S = 60.0  # ... in each stretch of so long
Arrays = Mapping[str, NDArray[Any]]
KeepForReview = Callable[[Head, Arrays], bool]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A verified bundle that may be shadowed.

    Args:
        per_mille: Share of the inputs that it sees.
    """

    folder: Path
    verified: VerifiedManifest
    choice: Choice
    per_mille: int
    budget: Budget


@dataclass(frozen=True, eq=False)
class _Case:
    """One input with what went out for it, copied."""

    head: Head
    inputs: Arrays
    outputs: Arrays


class ShadowRunner:
    """The shadow and its thread.

    Args:
        keep: Puts an input into the review ring; called in this thread, may wait for the disk.
    """

    def __init__(self, candidate: Candidate, keep: KeepForReview) -> None:
        """Take the candidate; `start` runs the thread."""
        self.candidate = candidate
        self._manifest: Manifest = candidate.verified.manifest
        self._keep = keep
        self._queue: Queue[_Case | None] = Queue(WAITING)
        self._lock = threading.Lock()
        self._seen = 0
        self._purse = Purse(candidate.budget, monotonic())
        self._worst: list[tuple[float, _Case]] = []
        self._session: Session | None = None
        self._model: IsolatedModel | None = None
        self._reason = ""
        self._told = False
        self._begin()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def _begin(self) -> None:
        self._compared = self._agreed = self._failed = 0
        self._skipped: dict[str, int] = {}
        self._latency: dict[int, int] = {}
        self._cpu_s, self._rss_bytes = 0.0, 0

    def start(self) -> None:
        """Open the candidate, in its thread, and begin to look on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what runs, end the candidate's process, and the thread."""
        self._reason = self._reason or "stopped"
        self._told = True
        with self._lock:
            self._purse.stopped = self._purse.stopped or "stopped"
        with suppress(Full):  # then there is something to wake up for
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def see(self, request: Request, settled: Settled) -> None:
        """Hand a share of the inputs over, as far as the budget goes; the first sample of a batch."""
        self._seen += 1
        # by a hash of the count and not every n-th: inputs may come in turns, too
        if not is_chosen(self.candidate.verified.digest, str(self._seen), self.candidate.per_mille):
            return
        if not self._purse.may_run(monotonic()):
            self._skip("stopped" if self._purse.stopped else "cpu")
            return
        if self._queue.full():
            self._skip("busy")
            return
        answer = settled.answer
        case = _Case(
            describe(request.origin, settled.serving, settled, 0, "disagreement"),
            {name: values[:1].copy() for name, values in answer.inputs.items()},
            {name: values[:1].copy() for name, values in answer.outputs.items()},
        )
        try:
            self._queue.put_nowait(case)
        except Full:
            self._skip("busy")

    def cut(self) -> ShadowCounts:
        """Close the counts and open the next."""
        with self._lock:
            reason = self._reason
            counts = ShadowCounts(
                bundle=self.candidate.verified.digest,
                state="stopped" if reason else "running",
                reason=reason[:64],
                compared=self._compared,
                agreed=self._agreed,
                failed=self._failed,
                skipped=self._skipped,
                latency_ms=QuantileSketch(bins=self._latency),
                cpu_s=self._cpu_s,
                rss_bytes=self._rss_bytes,
            )
            self._begin()
        return counts

    def take_told(self) -> str:
        """Why the shadow has stopped, once; "" while it runs."""
        if not self._reason or self._told:
            return ""
        self._told = True
        return self._reason

    @property
    def pid(self) -> int | None:
        """The candidate's process; None when there is none now."""
        model = self._model
        return None if model is None else model.pid

    def _skip(self, why: str) -> None:
        with self._lock:
            self._skipped[why] = self._skipped.get(why, 0) + 1

    def _run(self) -> None:
        try:
            self._open()
            flush_at_s = monotonic() + EVERY_S
            while not self._purse.stopped:
                try:
                    case = self._queue.get(timeout=max(0.0, flush_at_s - monotonic()))
                except Empty:
                    self._flush()
                    flush_at_s = monotonic() + EVERY_S
                    continue
                if case is not None:
                    self._compare(case)
                if monotonic() >= flush_at_s:
                    self._flush()
                    flush_at_s = monotonic() + EVERY_S
            self._end(self._purse.stopped)
            self._flush()
        except (AgentError, ContractError) as error:
            log.error("shadow not opened", extra={"reason": str(error)})
            self._end(error.code)
        finally:
            self._purse.stopped = self._purse.stopped or "died"
            if self._session is not None:
                self._session.close()

    def _open(self) -> None:
        """Open the candidate in its process; its golden inputs must agree there."""
        candidate = self.candidate
        option = candidate.choice.option
        run_s = max(10.0, candidate.budget.latency_ms / 100)  # ten times what is allowed is a hang
        artifact = self._manifest.artifact(option.artifact)
        patience = Patience(run_s, max(60.0, run_s))
        model = IsolatedModel(candidate.folder, artifact, option, 1, patience, command=COMMAND)
        self._model = model
        runtime = f"{option.runtime} {registry.load(option.runtime).version()} {option.device}"
        self._session = Session(self._manifest, candidate.choice, runtime, model)
        golden = read_golden(candidate.folder, self._manifest, option.artifact)
        if not run_golden(self._session, golden).passed:
            self._purse.stopped = "golden-mismatch"
        self._account(0.0, model.pid)

    def _compare(self, case: _Case) -> None:
        session, model = self._session, self._model
        if session is None or model is None:
            raise AssertionError("a shadow compares when it is open")
        pid, before_s = model.pid, _cpu_s(model.pid)
        try:
            answer = session.infer(case.inputs)
        except (InferenceFailed, InputRefused) as error:
            log.warning("shadow failed", extra={"reason": str(error)})
            with self._lock:
                self._failed += 1
                self._purse.failed()
            self._account(before_s if model.pid == pid else 0.0, model.pid)
            return
        latency_ms = float(answer.latency_ms[0])
        agrees, distance = compare(self._manifest, case.outputs, answer.outputs)
        with self._lock:
            self._compared += 1
            self._agreed += agrees
            index = bin_index(latency_ms)
            self._latency[index] = self._latency.get(index, 0) + 1
            self._purse.answered(latency_ms)
        self._account(before_s if model.pid == pid else 0.0, model.pid)
        if not agrees:
            head = case.head
            if self._manifest.task == "classification":
                theirs = int(answer.outputs[self._manifest.outputs[0].name].argmax())
                head = head.model_copy(update={"other": theirs})
            self._worst.append((distance, replace(case, head=head)))
            self._worst.sort(key=lambda one: one[0], reverse=True)
            del self._worst[WORST:]

    def _account(self, before_s: float, pid: int | None) -> None:
        """Count what the process has used since a reading."""
        used_s = max(0.0, _cpu_s(pid) - before_s)
        memory_bytes = self._model.memory_bytes if self._model is not None else 0
        with self._lock:
            self._cpu_s += used_s
            self._rss_bytes = max(self._rss_bytes, memory_bytes)
            self._purse.spend(used_s, monotonic())
            self._purse.weigh(memory_bytes)

    def _flush(self) -> None:
        """Keep the most disagreeing inputs for review."""
        worst, self._worst = self._worst, []
        for _, case in worst:
            try:
                self._keep(case.head, case.inputs)
            except AgentError as error:
                log.error("input not kept for review", extra={"reason": str(error)})

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason


def compare(manifest: Manifest, ours: Arrays, candidates: Arrays) -> tuple[bool, float]:
    """Whether two answers agree, and how far they are apart.

    Classifiers agree on the class; other models within the bundle's own limit for golden answers
    (`min_sqnr_db`), over all outputs.

    Args:
        manifest: Of the candidate.

    Returns:
        Agreement, and the difference's power relative to the answer's, as a ratio of lengths.
    """
    power = noise = 0.0
    for name, values in ours.items():
        wide = values.astype(np.float64)
        power += float(np.square(wide).sum())
        noise += float(np.square(candidates[name] - wide).sum())
    distance = float(np.sqrt(noise / max(power, 1e-30)))
    if manifest.task == "classification":
        name = manifest.outputs[0].name
        return int(ours[name].argmax()) == int(candidates[name].argmax()), distance
    return distance <= 10 ** (-manifest.golden.min_sqnr_db / 20), distance


def _cpu_s(pid: int | None) -> float:
    """Processor time of a process so far; 0 when it is gone."""
    if pid is None:
        return 0.0
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)
