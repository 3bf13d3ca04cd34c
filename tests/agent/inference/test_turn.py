"""The turn is one thread's at a time, and the inference thread is not kept waiting by those who borrow it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, build, reference
from agent_fleet import until

from edge_agent.errors import DeadlinePassed, InputRefused, NoModel, RateLimited
from edge_agent.inference.engine import QUICK_S, Engine
from edge_agent.inference.request import Reply, Request
from edge_agent.inference.request_queue import QueueLimits
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer, Session
from edge_agent.inference.turn import Turn
from edge_contracts.bundle import open_bundle

DIGEST = "sha256:" + "1" * 64
ASKED = Request({"x": GOLDEN_X[:1]})


class Noting(Session):
    """Notes which threads it answered in."""

    threads: set[str]

    def infer(self, inputs: object) -> Answer:
        self.threads.add(threading.current_thread().name)
        return super().infer(inputs)  # type: ignore[arg-type]


class Broken(Session):
    def infer(self, inputs: object) -> Answer:
        raise ZeroDivisionError


def opened(folder: Path) -> Serving:
    bundle = open_bundle(build())
    bundle.extract(folder)
    session = Session.open(folder, bundle.manifest)
    session.__class__ = Noting
    session.threads = set()  # type: ignore[attr-defined]
    return Serving.begin(DIGEST, session, False)


def threads(engine: Engine) -> set[str]:
    assert engine.serving is not None
    found: set[str] = engine.serving.session.threads  # type: ignore[attr-defined]
    return found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(limits=QueueLimits(rate_per_s=1e9))
    engine.switch(opened(tmp_path / "bundle"))
    engine.start()
    yield engine
    engine.stop()


def asleep(engine: Engine) -> None:
    """Wait until the inference thread has nothing to do."""
    until(lambda: engine.busy_s(monotonic()) == 0 and not engine.waiting, "it sleeps")


def ask_in_place(engine: Engine, request: Request = ASKED) -> Reply:
    """Ask until a request was answered in this thread."""
    while True:
        threads(engine).clear()
        asleep(engine)
        reply = engine.ask(request, 10)
        if threads(engine) == {threading.current_thread().name}:
            return reply


def test_a_turn_that_is_held_or_wanted_is_not_lent() -> None:
    turn = Turn()
    turn.take()
    assert not turn.borrow()
    turn.give()
    assert turn.borrow()
    assert not turn.borrow()
    back = threading.Thread(target=turn.take)
    back.start()
    until(lambda: turn._wanted, "the inference thread wants it")
    turn.give()
    back.join(10)
    assert not turn.borrow()
    turn.give()
    assert turn.borrow()


def test_a_quick_model_answers_in_the_thread_that_asks_and_is_counted(engine: Engine) -> None:
    first = engine.ask(Request({"x": GOLDEN_X}), 10)
    assert threads(engine) == {"inference"}  # nobody knows yet how long it takes
    assert np.allclose(first.outputs["scores"], reference(GOLDEN_X), atol=1e-5)
    reply = ask_in_place(engine, Request({"x": GOLDEN_X}))
    assert np.array_equal(reply.outputs["scores"], first.outputs["scores"])
    window = engine.cut(False)
    assert window is not None
    assert window.inferences == engine.totals.answered > 16


def test_a_slow_model_answers_in_the_inference_thread(engine: Engine) -> None:
    engine.ask(ASKED, 10)
    for _ in range(5):
        engine._took_s = QUICK_S
        threads(engine).clear()
        asleep(engine)
        engine.ask(ASKED, 10)
        assert threads(engine) == {"inference"}


def test_while_the_inference_thread_works_a_request_waits_for_its_turn(engine: Engine) -> None:
    engine.ask(ASKED, 10)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(20)

    working = threading.Thread(target=engine.between, args=(work,))
    working.start()
    assert begun.wait(10)
    with pytest.raises(DeadlinePassed, match=r"no answer within 0\.05 s"):
        engine.ask(ASKED, 0.05)
    go_on.set()
    working.join(10)
    assert engine.ask(ASKED, 10).bundle == DIGEST


def test_who_does_not_wait_passes_the_same_gate(engine: Engine, tmp_path: Path) -> None:
    ask_in_place(engine)
    engine.cut(False)
    asleep(engine)
    with pytest.raises(DeadlinePassed):
        engine.ask(Request({"x": GOLDEN_X[:1]}, deadline_s=monotonic() - 1), 10)
    with pytest.raises(InputRefused):
        engine.ask(Request({"x": np.full((1, 4), np.nan, np.float32)}), 10)
    window = engine.cut(False)
    assert window is not None
    assert (window.unserved, window.refused) == ({"deadline": 1}, {"not-finite": 1})
    engine.switch(None)
    with pytest.raises(NoModel):
        engine.ask(ASKED, 10)


def test_a_client_that_does_not_wait_spends_its_rate(tmp_path: Path) -> None:
    engine = Engine(limits=QueueLimits(rate_per_s=1e-3, burst=3))
    engine.switch(opened(tmp_path / "bundle"))
    engine.start()
    for _ in range(3):
        engine.ask(ASKED, 10)
    with pytest.raises(RateLimited):
        engine.ask(ASKED, 10)
    engine.stop()


def test_nobody_who_asks_keeps_the_inference_thread_from_what_it_is_told(engine: Engine) -> None:
    enough = threading.Event()

    def client() -> None:
        while not enough.is_set():
            engine.ask(ASKED, 10)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    counted = 0
    for _ in range(50):
        window = engine.cut(False)
        assert window is not None
        counted += window.inferences
    enough.set()
    for thread in clients:
        thread.join(10)
    window = engine.cut(False)
    assert window is not None
    assert counted + window.inferences == engine.totals.answered > 0


def test_after_a_stop_nobody_answers_in_its_place(engine: Engine) -> None:
    ask_in_place(engine)
    engine.stop()
    with pytest.raises(NoModel, match="stops"):
        engine.ask(ASKED, 10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_in_a_borrower_ends_the_inference_thread(tmp_path: Path) -> None:
    engine = Engine()
    engine.switch(opened(tmp_path / "bundle"))
    engine.start()
    ask_in_place(engine)
    assert engine.serving is not None
    engine.serving.session.__class__ = Broken
    asleep(engine)
    with pytest.raises((ZeroDivisionError, NoModel)):  # the latter where the inference thread was awake
        engine.ask(ASKED, 10)
    until(lambda: engine.has_died, "its death is noticed")
    with pytest.raises(NoModel, match="died"):
        engine.ask(ASKED, 10)
