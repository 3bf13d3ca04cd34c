"""The inference thread: every input is answered and counted once, whatever it is asked between two."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from agent_bundles import build
from agent_fleet import until

from edge_agent.doubt.lineup import Settled
from edge_agent.errors import NoModel
from edge_agent.inference.engine import Engine
from edge_agent.inference.request import Request
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.inference.source import BadFile, Nothing, Sample
from edge_agent.logs import JsonFormatter, TextFormatter
from edge_contracts.bundle import open_bundle

ROW = np.zeros((1, 4), np.float32)
GOOD, REFUSED = Sample({"x": ROW}, "good"), Sample({"x": np.full((1, 4), np.nan, np.float32)}, "nan")


class Stream:
    """Gives what it was made with, then nothing; or for ever one thing."""

    def __init__(self, *items: Sample | BadFile, forever: Sample | None = None) -> None:
        self.items, self.forever, self.given = list(items), forever, 0

    def next(self, now_s: float) -> Sample | BadFile | Nothing:
        self.given += 1
        if self.items:
            return self.items.pop(0)
        return self.forever if self.forever is not None else Nothing(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    open_bundle(build()).extract(tmp_path / "bundle")
    return tmp_path / "bundle"


def serving(folder: Path, bundle: str, trial: bool = False) -> Serving:
    manifest = open_bundle(build()).manifest
    return Serving.begin(bundle, Session.open(folder, manifest), trial)


FIRST, SECOND = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    started: list[Engine] = []
    yield started
    for engine in started:
        engine.stop()


def test_each_input_is_counted_once_under_its_kind(folder: Path, engines: list[Engine]) -> None:
    stream = Stream(GOOD, REFUSED, GOOD, BadFile("x.npz", "is damaged"), GOOD)
    engine = Engine(stream)
    engines.append(engine)
    engine.switch(serving(folder, FIRST))
    engine.start()
    until(lambda: not stream.items and engine.idle_s(1e12) > 0, "all are taken")
    window = engine.cut(trial=False)
    assert window is not None
    assert (window.inferences, window.errors) == (3, {})
    assert window.refused == {"not-finite": 1, "bad-file": 1}
    totals = engine.totals
    assert (totals.answered, totals.refused, totals.failed) == (3, 1, 0)


def test_no_answer_is_lost_or_counted_twice_over_switches_and_cuts(
    folder: Path, engines: list[Engine]
) -> None:
    answers: list[str] = []

    def answered(settled: Settled, _sample: Sample) -> None:
        answers.append(settled.serving.bundle)

    engine = Engine(Stream(forever=GOOD), answered)
    engines.append(engine)
    engine.switch(serving(folder, FIRST))
    engine.start()
    windows = []
    for bundle in (SECOND, FIRST, SECOND):
        count = len(answers)
        until(lambda count=count: len(answers) > count + 20, "twenty answers")  # type: ignore[misc]
        windows += [engine.cut(trial=True), engine.switch(serving(folder, bundle, trial=True))]
    engine.stop()
    windows.append(engine.switch(None))
    counted = {FIRST: 0, SECOND: 0}
    for window in windows:
        assert window is not None
        counted[window.bundle] += window.inferences
    assert counted == {bundle: answers.count(bundle) for bundle in counted}
    assert windows[0] is not None
    assert windows[1] is not None
    assert (windows[0].trial, windows[1].trial) == (False, True)


def test_inputs_wait_where_they_are_until_there_is_a_model(folder: Path, engines: list[Engine]) -> None:
    stream = Stream(GOOD)
    engine = Engine(stream)
    engines.append(engine)
    engine.start()
    assert engine.cut(trial=False) is None
    assert stream.given == 0
    engine.switch(serving(folder, FIRST))
    until(lambda: engine.totals.answered == 1, "it is answered now")


def test_spare_work_waits_until_no_request_waits_or_its_time_is_up(
    folder: Path, engines: list[Engine]
) -> None:
    busy = Engine(Stream(forever=GOOD))
    idle = Engine(Stream())
    engines += [busy, idle]
    for engine in engines:
        engine.switch(serving(folder, FIRST))
        engine.start()
    assert idle.when_idle(lambda: 1, within_s=600.0).result(10) == 1
    late = busy.when_idle(lambda: 1, within_s=600.0)
    until(lambda: busy.totals.answered > 20, "twenty answers")
    assert not late.done()
    soon = Engine(Stream(forever=GOOD))
    engines.append(soon)
    soon.switch(serving(folder, FIRST))
    soon.start()
    assert soon.when_idle(lambda: 1, within_s=0.0).result(10) == 1


def test_while_the_model_is_suspended_inputs_wait_and_none_is_lost(
    folder: Path, engines: list[Engine]
) -> None:
    stream = Stream(forever=GOOD)
    engine = Engine(stream)
    engines.append(engine)
    engine.switch(serving(folder, FIRST))
    engine.start()
    until(lambda: engine.totals.answered > 5, "answers")
    engine.suspend()
    taken, answered = stream.given, engine.totals.answered
    request = engine.submit(Request({"x": ROW}))
    assert engine.cut(trial=False) is not None, "the window can be cut meanwhile"
    assert (stream.given, engine.totals.answered) == (taken, answered)
    assert not request.done()
    engine.switch(serving(folder, SECOND))
    assert request.result(10).bundle == SECOND


def test_without_a_model_requests_are_told_why(folder: Path, engines: list[Engine]) -> None:
    engine = Engine()
    engines.append(engine)
    engine.switch(serving(folder, FIRST))
    engine.start()
    engine.switch(None, "nothing here can be trusted")
    with pytest.raises(NoModel, match="nothing here can be trusted"):
        engine.submit(Request({"x": ROW}))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_noticed_and_nobody_waits_for_it_for_ever(folder: Path) -> None:
    died = Event()

    def fails(*_: object) -> None:
        died.set()
        raise ZeroDivisionError

    engine = Engine(Stream(forever=GOOD), fails)
    engine.switch(serving(folder, FIRST))
    engine.start()
    assert died.wait(10)
    until(lambda: engine.has_died, "its death is noticed")


def test_the_log_shows_an_event_with_its_fields() -> None:
    record = logging.makeLogRecord(
        {
            "msg": "confirmed",
            "levelname": "INFO",
            "created": 0.0,
            "bundle": "b1",
            "why": "two words",
            "code": "",
        }
    )
    assert TextFormatter().format(record).endswith('INFO    confirmed bundle=b1 why="two words"')
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "event": "confirmed",
        "bundle": "b1",
        "why": "two words",
    }


class Hanging:
    """Does not come back until it is let go, then gives nothing."""

    def __init__(self) -> None:
        self.asked, self.go = Event(), Event()

    def next(self, now_s: float) -> Nothing:
        self.asked.set()
        self.go.wait(60)
        return Nothing(60.0)


def test_a_hang_is_seen_from_outside_and_waiting_is_none(folder: Path, engines: list[Engine]) -> None:
    hanging = Hanging()
    engine = Engine(hanging)
    engines.append(engine)
    assert engine.busy_s(1e12) == 0
    engine.switch(serving(folder, FIRST))
    engine.start()
    assert hanging.asked.wait(60)
    assert engine.busy_s(1e12) > 1e11
    hanging.go.set()
    until(lambda: engine.busy_s(1e12) == 0, "the thread waits")
