"""A broker that refuses the device: what the doctor says of it, and when."""

from __future__ import annotations

from pathlib import Path
from random import Random
from time import time

import pytest
from enrolled_device import device_config

from edge_agent.device import doctor
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home, write_durably
from edge_agent.device.refused import OFTEN, STANDS_S, read_refusal
from edge_agent.device.words import moment
from edge_agent.telemetry import standing
from edge_agent.telemetry.mqtt import Link
from edge_agent.telemetry.reporter import Reporter
from edge_agent.telemetry.standing import Standing
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import DeviceState
from edge_contracts.model import canonical_json


def unheard(kind: str, _outbox: object) -> DeviceState:
    """Nothing is described while there is no link."""
    raise AssertionError(kind)


def told(home: Home, for_s: float, times: int, link_up: bool = False) -> list[Finding]:
    """What the doctor makes of what the daemon wrote, while it runs or not."""
    home.make()
    write_durably(home.config, canonical_json(device_config()))
    now_ms = int(time() * 1000)
    news = Standing(
        time_ms=now_ms,
        started_ms=now_ms,
        agent="0.1.0",
        link_up=link_up,
        link_reason="the broker refuses the device: Not authorized",
        refused_since_ms=now_ms - int(for_s * 1000),
        refusals=times,
    )
    assert standing.write(home, news)
    return [found for found in doctor.examine(home) if "refuses this device" in found.detail]


@pytest.mark.parametrize(("for_s", "grade"), [(7200, Grade.WRONG), (20, Grade.NOTICE)])
def test_the_doctor_says_since_when_and_what_to_do_once_it_stands(
    tmp_path: Path, for_s: float, grade: Grade
) -> None:
    home = Home(tmp_path)
    home.make()
    with home.locked():
        (found,) = told(home, for_s, 90)
    assert found.grade is grade
    assert "90 times; now: the broker refuses the device: Not authorized" in found.detail
    assert ("enroll --force" in found.advice) == (grade is Grade.WRONG)


def test_nothing_is_said_when_it_is_over_never_was_or_is_old_news(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    with home.locked():
        assert told(home, 7200, 90, link_up=True) == []
        assert told(home, 7200, 0) == []
    assert told(home, 7200, 90) == [], "the daemon does not run"


def test_it_stands_when_it_was_repeated_over_a_while() -> None:
    def stands(for_s: float, count: int) -> bool:
        found = read_refusal(False, "no", 1_800_000_000_000, count, 1_800_000_000.0 + for_s)
        assert found is not None
        assert str(found).startswith(f"since {moment(1_800_000_000_000)} (")
        return found.stands

    assert stands(STANDS_S, OFTEN)
    assert not stands(STANDS_S - 1, OFTEN)
    assert not stands(STANDS_S, OFTEN - 1)


def test_refusals_are_counted_from_the_first_until_the_link_is_up(tmp_path: Path) -> None:
    home, config = Home(tmp_path), device_config()
    home.make()
    link = Link(config, lambda _: None, Random(1))
    reporter = Reporter(home, config, PrivateKey.generate(), link, unheard, Random(1))
    try:
        reporter.link_down("no route")
        assert (reporter.refused_since_ms, reporter.refusals) == (0, 0)
        before_ms = int(time() * 1000)
        reporter.link_down("Not authorized", refused=True)
        since_ms = reporter.refused_since_ms
        assert since_ms >= before_ms
        reporter.link_down("no route")  # the network may fail in between
        reporter.link_down("Not authorized", refused=True)
        assert (reporter.refused_since_ms, reporter.refusals) == (since_ms, 2)
        reporter.link_up(0.0)
        assert (reporter.refused_since_ms, reporter.refusals) == (0, 0)
    finally:
        reporter.close()
