from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from edge_fleet.log_lines import QUIET_S, REMEMBERED, Repeats, log_to_stderr


def test_what_somebody_asked_for_makes_no_line_of_its_own_in_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("edge_fleet")
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", log.level)
    log_to_stderr()
    log.error(
        "database away", extra={"path": "/console\n2027-01-01 INFO edge_fleet.link: up", "reason": "a\n\tb"}
    )
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.endswith("database away path=/console 2027-01-01 INFO edge_fleet.link: up reason=a \tb\n")


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def passes(clock: list[float]) -> Callable[..., int | None]:
    """Lets a line through the filter: how many were left out before it, or None if it is."""
    repeats = Repeats(lambda: clock[0])

    def ask(text: str, level: int = logging.ERROR, exc_info: object = None, **fields: object) -> int | None:
        record = logging.LogRecord("edge_fleet.ingest", level, "", 1, text, (), exc_info)  # type: ignore[arg-type]
        vars(record).update(fields)
        return getattr(record, "repeated", 0) if repeats.filter(record) else None

    return ask


def test_an_error_that_goes_on_is_told_once_a_minute_with_how_often_it_was(
    passes: Callable[..., int | None], clock: list[float]
) -> None:
    assert [passes("batch not stored", reason="locked") for _ in range(4)] == [0, None, None, None]
    clock[0] += QUIET_S
    assert [passes("batch not stored", reason="locked") for _ in range(2)] == [3, None]
    clock[0] += QUIET_S
    assert passes("batch not stored", reason="locked") == 1


def test_what_says_something_else_is_told_at_once(passes: Callable[..., int | None]) -> None:
    assert passes("batch not stored", reason="locked") == 0
    assert passes("batch not stored", reason="full") == 0
    assert passes("standings put off", reason="locked") == 0
    assert [passes("revoked", logging.INFO) for _ in range(2)] == [0, 0]
    fault = (ValueError, ValueError("one"), None)
    assert [passes("fault", exc_info=fault) for _ in range(2)] == [0, 0], "each has a traceback of its own"


def test_what_is_remembered_is_bounded(passes: Callable[..., int | None]) -> None:
    for number in range(REMEMBERED + 1):
        assert passes("not taken", webhook=number) == 0
    assert passes("not taken", webhook=REMEMBERED) is None
    assert passes("not taken", webhook=0) == 0, "the oldest is forgotten"
