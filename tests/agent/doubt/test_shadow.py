"""A shadow: it sees the same inputs, nobody sees its answers, and what happens to it happens to it alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, KEY, build, reference
from agent_fleet import until
from lineup_models import SURE_X, UNSURE_X, ask, bundle, contrary, open_serving
from numpy.typing import NDArray

from edge_agent.doubt.lineup import Lineup
from edge_agent.doubt.ring import Head
from edge_agent.doubt.shadow import Arrays, Candidate, ShadowRunner, compare
from edge_agent.doubt.shadow_budget import Budget
from edge_agent.inference.serving import Serving
from edge_agent.runtimes.choice import choose, options
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import TrustedKeys
from edge_contracts.lineup import ShadowCounts
from edge_contracts.signing import verify

GENEROUS = Budget(cpu_share=1.0, memory_bytes=1 << 30, latency_ms=5000)
Start = Callable[..., ShadowRunner]


@pytest.fixture
def kept() -> list[tuple[Head, Arrays]]:
    return []


@pytest.fixture
def start(tmp_path: Path, kept: list[tuple[Head, Arrays]]) -> Iterator[Start]:
    runners: list[ShadowRunner] = []

    def keep(head: Head, inputs: Arrays) -> bool:
        kept.append((head, inputs))
        return True

    def begin(archive: bytes, budget: Budget = GENEROUS, per_mille: int = 1000) -> ShadowRunner:
        opened = open_bundle(archive)
        folder = tmp_path / f"shadow-{len(runners)}"
        opened.extract(folder)
        verified = verify(opened, TrustedKeys.of([KEY.public]))
        choice = choose(options(opened.manifest))
        runner = ShadowRunner(Candidate(folder, verified, choice, per_mille, budget), keep)
        runner.start()
        runners.append(runner)
        return runner

    yield begin
    for runner in runners:
        runner.stop()


class Pair:
    """An active model with a shadow beside it, and all that the shadow has counted."""

    def __init__(self, folder: Path, shadow: ShadowRunner) -> None:
        self.active: Serving = open_serving(folder, bundle(0.1))
        self.shadow, self.lineup = shadow, Lineup()
        self.lineup.watch(None, shadow)
        self.compared = self.agreed = self.failed = 0
        self.skipped: dict[str, int] = {}

    def ask(self, x: object = SURE_X, origin: str = "") -> NDArray[Any]:
        return self.lineup.answer(self.active, ask(x, origin)).answer.outputs["scores"]

    def count(self) -> ShadowCounts:
        window = self.lineup.cut(self.active)
        assert window.lineup is not None
        assert window.lineup.shadow is not None
        counts = window.lineup.shadow
        self.compared += counts.compared
        self.agreed += counts.agreed
        self.failed += counts.failed
        for why, count in counts.skipped.items():
            self.skipped[why] = self.skipped.get(why, 0) + count
        return counts

    def go_on_until(self, question: Callable[[], bool], what: str) -> None:
        def once() -> bool:
            self.ask()
            self.count()
            return question()

        until(once, what)


def test_its_answers_never_leak_and_are_reported_as_disagreement(
    tmp_path: Path, start: Start, kept: list[tuple[Head, Arrays]]
) -> None:
    pair = Pair(tmp_path, start(contrary()))
    rows = cycle(range(16))

    def one_more() -> bool:
        row = next(rows)
        x = GOLDEN_X[row : row + 1]
        np.testing.assert_allclose(pair.ask(x, f"golden-{row}"), reference(x), atol=1e-5)
        assert pair.count().state == "running"
        return pair.compared >= 20

    until(one_more, "twenty comparisons")
    assert pair.agreed < pair.compared
    window = pair.lineup.cut(pair.active)
    assert window.inferences == 0  # the shadow's inferences are nobody's
    assert window.bundle == pair.active.bundle
    pair.shadow.stop()
    assert 1 <= len(kept) <= 3  # the most disagreeing ones, not all
    for head, inputs in kept:
        assert head.reason == "disagreement"
        assert head.bundle == pair.active.bundle
        row = int(head.request.removeprefix("golden-"))
        np.testing.assert_array_equal(inputs["x"], GOLDEN_X[row : row + 1])
        assert head.answer == reference(inputs["x"]).argmax() != head.other


def test_the_same_model_agrees_and_what_it_costs_is_told(tmp_path: Path, start: Start) -> None:
    pair = Pair(tmp_path, start(bundle(0.1, version="2")))
    pair.go_on_until(lambda: pair.compared >= 5, "five comparisons")
    assert pair.agreed == pair.compared
    pair.ask()
    until(lambda: pair.count().compared or pair.ask() is None, "one more")
    assert pair.shadow.take_told() == ""


def test_its_death_costs_one_comparison_and_no_answer(tmp_path: Path, start: Start) -> None:
    pair = Pair(tmp_path, start(bundle(0.1, version="2")))
    pair.go_on_until(lambda: pair.compared >= 1, "it runs")
    pid = pair.shadow.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    before = pair.compared
    pair.go_on_until(lambda: pair.failed >= 1 and pair.compared > before, "it was started again")
    assert pair.shadow.pid != pid
    assert pair.active.totals.failed == 0


@pytest.mark.parametrize(
    ("archive", "budget", "reason"),
    [
        (bundle(0.1, version="2"), Budget(1.0, 1 << 20, 5000), "memory"),
        (bundle(0.1, version="2"), Budget(1.0, 1 << 30, 1e-6), "latency"),
    ],
)
def test_over_its_budget_it_is_stopped_and_reported(
    tmp_path: Path, start: Start, archive: bytes, budget: Budget, reason: str
) -> None:
    pair = Pair(tmp_path, start(archive, budget))
    pair.go_on_until(lambda: pair.shadow.take_told() == reason, "it is stopped")
    assert pair.shadow.take_told() == ""  # told once
    until(lambda: pair.shadow.pid is None, "its process is gone")
    pair.ask()
    counts = pair.count()
    assert (counts.state, counts.reason) == ("stopped", reason)
    assert pair.skipped["stopped"] >= 1


def test_above_its_share_of_the_processor_inputs_are_skipped(tmp_path: Path, start: Start) -> None:
    pair = Pair(tmp_path, start(bundle(0.1, version="2"), Budget(0.001, 1 << 30, 5000)))
    # its start alone has used up minutes of a thousandth of a core
    pair.go_on_until(lambda: pair.skipped.get("cpu", 0) >= 5, "skipped for the processor's sake")
    assert pair.active.totals.failed == 0


def test_a_candidate_whose_golden_answers_differ_never_compares(tmp_path: Path, start: Start) -> None:
    wrong = build(version="3", expected=reference(GOLDEN_X)[:, ::-1].copy())
    pair = Pair(tmp_path, start(wrong))
    pair.go_on_until(lambda: pair.shadow.take_told() == "golden-mismatch", "it is refused")
    assert pair.compared == 0


def test_the_share_that_it_sees_is_the_one_that_was_asked_for(tmp_path: Path, start: Start) -> None:
    shadow = start(bundle(0.1, version="2"), Budget(0.001, 1 << 30, 5000), per_mille=100)
    pair = Pair(tmp_path, shadow)
    until(lambda: shadow.pid is not None, "it is open")
    for _ in range(2000):
        pair.ask(UNSURE_X)
    pair.count()
    until(lambda: pair.count().skipped == {}, "all are counted")
    seen = pair.compared + pair.failed + sum(pair.skipped.values())
    assert 140 <= seen <= 262  # 200 expected, 4.5 standard deviations; the last may still wait


@pytest.mark.parametrize(
    ("theirs", "agrees", "distance"),
    [([0.8, 0.2], True, 0.0), ([0.7, 0.3], True, 0.1715), ([0.2, 0.8], False, 1.029)],
)
def test_classifiers_agree_on_the_class(theirs: list[float], agrees: bool, distance: float) -> None:
    manifest = open_bundle(bundle()).manifest
    found = compare(manifest, {"scores": np.array([[0.8, 0.2]])}, {"scores": np.array([theirs])})
    assert found[0] == agrees
    assert found[1] == pytest.approx(distance, abs=1e-3)


def test_other_models_agree_within_their_golden_limit() -> None:
    manifest = open_bundle(bundle(task="regression", confidence={})).manifest  # 20 dB
    ours = {"scores": np.array([[10.0, 0.0]])}
    assert compare(manifest, ours, {"scores": np.array([[10.9, 0.0]])})[0]
    assert not compare(manifest, ours, {"scores": np.array([[11.1, 0.0]])})[0]
