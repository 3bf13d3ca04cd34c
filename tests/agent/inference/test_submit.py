"""Requests of clients: answered by exactly one model, refused with a reason, never left without a word."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, build, reference
from agent_fleet import until

from edge_agent.errors import DeadlinePassed, InputRefused, NoModel, QueueFull
from edge_agent.inference.engine import Engine
from edge_agent.inference.request import Reply, Request
from edge_agent.inference.request_queue import QueueLimits
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer, Session
from edge_agent.inference.source import BadFile, Nothing, Sample
from edge_contracts.bundle import open_bundle

DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
GOOD = Sample({"x": GOLDEN_X[:1]}, "good")


class Endless:
    """A source that always has an input, and says nothing else."""

    given = 0

    def next(self, now_s: float) -> Sample | BadFile | Nothing:
        self.given += 1
        return GOOD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_bundle(build()).extract(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    started: list[Engine] = []
    yield started
    for engine in started:
        engine.stop()


def serving(folder: Path, bundle: str = DIGEST) -> Serving:
    return Serving.begin(bundle, Session.open(folder, open_bundle(build()).manifest), False)


def begun(folder: Path, engines: list[Engine], engine: Engine) -> Engine:
    engine.switch(serving(folder))
    start(engines, engine)
    return engine


def start(engines: list[Engine], engine: Engine) -> None:
    engines.append(engine)
    engine.start()


def test_a_reply_holds_the_answer_and_who_gave_it(folder: Path, engines: list[Engine]) -> None:
    engine = begun(folder, engines, Engine())
    reply = engine.submit(Request({"x": GOLDEN_X})).result(10)
    (scores,) = reply.outputs.values()
    assert np.allclose(scores, reference(GOLDEN_X), atol=1e-5)
    assert (reply.model, reply.version, reply.bundle, reply.artifact) == ("tiny", "1", DIGEST, "float32")
    window = engine.cut(False)
    assert window is not None
    assert window.inferences == 16
    assert window.unserved == {}


def test_an_input_that_the_contract_refuses_is_the_clients_error_and_counted(
    folder: Path, engines: list[Engine]
) -> None:
    engine = begun(folder, engines, Engine())
    future = engine.submit(Request({"x": np.full((1, 4), np.nan, np.float32)}))
    error = future.exception(10)
    assert isinstance(error, InputRefused)
    assert error.code == "not-finite"
    window = engine.cut(False)
    assert window is not None
    assert (window.refused, window.inferences, window.unserved) == ({"not-finite": 1}, 0, {})


def test_an_expired_request_is_never_run(folder: Path, engines: list[Engine]) -> None:
    engine = Engine()
    engine.switch(serving(folder))
    deadline_s = monotonic() + 0.05
    late = engine.submit(Request({"x": GOLDEN_X}, deadline_s=deadline_s))
    good = engine.submit(Request({"x": GOLDEN_X}, deadline_s=monotonic() + 1000))
    until(lambda: monotonic() > deadline_s, "the first is late")
    start(engines, engine)
    assert isinstance(late.exception(10), DeadlinePassed)
    assert good.result(10).bundle == DIGEST
    window = engine.cut(False)
    assert window is not None
    assert (window.inferences, window.unserved, window.refused) == (16, {"deadline": 1}, {})


def test_a_request_that_is_called_off_is_not_run(folder: Path, engines: list[Engine]) -> None:
    engine = Engine()
    engine.switch(serving(folder))
    called_off = engine.submit(Request({"x": GOLDEN_X}))
    assert called_off.cancel()
    kept = engine.submit(Request({"x": GOLDEN_X[:1]}))
    start(engines, engine)
    kept.result(10)
    assert engine.totals.answered == 1


def test_a_full_queue_pushes_back_and_the_window_says_so(folder: Path, engines: list[Engine]) -> None:
    engine = Engine(limits=QueueLimits(requests=2))
    engine.switch(serving(folder))
    futures = [engine.submit(Request({"x": GOLDEN_X[:1]}, client)) for client in "ab"]
    with pytest.raises(QueueFull, match="2 requests wait"):
        engine.submit(Request({"x": GOLDEN_X[:1]}, "c"))
    assert engine.waiting == 2
    start(engines, engine)
    for future in futures:
        future.result(10)
    window = engine.cut(False)
    assert window is not None
    assert (window.inferences, window.unserved) == (2, {"queue-full": 1})


def test_a_busy_source_is_one_client_and_does_not_starve_requests(
    folder: Path, engines: list[Engine]
) -> None:
    source = Endless()
    engine = begun(folder, engines, Engine(source))
    until(lambda: source.given > 10, "the source is answered")
    replies = [engine.submit(Request({"x": GOLDEN_X[:1]}, client)) for client in "abc"]
    assert all(reply.result(10).bundle == DIGEST for reply in replies)
    given = source.given
    until(lambda: source.given > given + 10, "the source goes on")


def test_without_a_model_a_request_is_refused_and_waits_for_nothing(
    folder: Path, engines: list[Engine]
) -> None:
    engine = Engine()
    with pytest.raises(NoModel, match="install one"):
        engine.submit(Request({"x": GOLDEN_X}))
    engine.switch(serving(folder))
    future = engine.submit(Request({"x": GOLDEN_X}))
    engine.switch(None)
    start(engines, engine)
    assert isinstance(future.exception(10), NoModel)


def test_a_stop_answers_what_waits_and_refuses_what_comes(folder: Path) -> None:
    engine = Engine()
    engine.switch(serving(folder))
    futures = [engine.submit(Request({"x": GOLDEN_X[:1]})) for _ in range(20)]
    engine.start()
    engine.stop()
    assert all(future.result(0).bundle == DIGEST for future in futures)
    with pytest.raises(NoModel, match="stops"):
        engine.submit(Request({"x": GOLDEN_X}))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_ever_when_the_thread_dies(folder: Path) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    class Broken(Session):
        def infer(self, *_: object) -> Answer:
            raise ZeroDivisionError

    opened = Session.open(folder, open_bundle(build()).manifest)
    opened.__class__ = Broken
    engine = Engine(None, fails)
    engine.switch(Serving.begin(DIGEST, opened, False))
    futures = [engine.submit(Request({"x": GOLDEN_X}, client)) for client in "aab"]
    engine.start()
    for future in futures:
        assert isinstance(future.exception(10), NoModel)
    until(lambda: engine.has_died, "its death is noticed")


def test_every_request_over_many_switches_is_answered_by_exactly_one_model(
    folder: Path, engines: list[Engine]
) -> None:
    engine = begun(folder, engines, Engine())
    enough, got = threading.Event(), [0, 0, 0, 0]
    told: list[list[Reply]] = [[], [], [], []]

    def client(number: int) -> None:
        while not enough.is_set():
            future: Future[Reply] = engine.submit(Request({"x": GOLDEN_X[:1]}, f"c{number}"))
            got[number] += 1
            told[number].append(future.result(10))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    windows = []
    for bundle in (OTHER, DIGEST) * 3:
        sofar = [len(replies) for replies in told]
        until(lambda s=sofar: all(len(r) > n + 5 for r, n in zip(told, s, strict=True)), "answers")  # type: ignore[misc]
        windows.append(engine.switch(serving(folder, bundle)))
    enough.set()
    for thread in threads:
        thread.join(10)
    windows.append(engine.switch(None))
    assert [len(replies) for replies in told] == got
    counted = {DIGEST: 0, OTHER: 0}
    for window in windows:
        assert window is not None
        counted[window.bundle] += window.inferences
    heard = [reply.bundle for replies in told for reply in replies]
    assert counted == {bundle: heard.count(bundle) for bundle in counted}
