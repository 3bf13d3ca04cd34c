"""The page of edge-agent status: what a person reads, and what it tells them to do."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.device.page import as_text
from edge_agent.device.troubles import find_troubles

NOW_S = 1_800_000_000.0
NOW_MS = int(NOW_S * 1000)
BUNDLE = {
    "slot": "a",
    "bundle": "sha256:" + "ab" * 32,
    "name": "digits",
    "version": "2.0.0",
    "runs": "int8 on litert",
    "fallback": "",
}

QUARANTINED = {"subject": "edgetpu/EDGETPU", "code": "runtime-hung", "detail": "no answer"}


def status(**changes: Any) -> dict[str, Any]:
    """Of a device that is well; `news__x` changes x in what the daemon wrote."""
    news = {
        "time_ms": NOW_MS - 20_000,
        "started_ms": NOW_MS - 2 * 3_600_000,
        "agent": "0.1.0",
        "model": {"name": "digits"},
        "model_since_ms": NOW_MS - 2 * 3_600_000,
        "golden_agrees": True,
        "drifting": [],
        "link_up": True,
        "link_reason": "",
        "refused_since_ms": 0,
        "refusals": 0,
        "heard_ms": NOW_MS - 12_000,
        "answered": 1234,
        "failed": 1,
        "refused": 2,
        "latency_p50_ms": 1.5,
        "latency_p95_ms": 2.25,
        "temperature_c": 41.4,
        "rss_bytes": 58_000_000,
        "dropped_records": 0,
        "alarm": "",
        "alarm_ms": 0,
    }
    found: dict[str, Any] = {
        "home": "/var/lib/edge-agent",
        "device": "cam-1",
        "fleet": "plant",
        "server": "https://fleet.example",
        "profile": ["raspberry-pi-4", "arm-cpu"],
        "agent_process": 77,
        "phase": "idle",
        "active": BUNDLE,
        "candidate": None,
        "last_good": {**BUNDLE, "version": "1.0.0"},
        "emptied": "",
        "beside": [],
        "assignment": {"assignment": 4, "phase": "rolled_back", "code": "crash", "detail": "died on trial"},
        "downloads": {"day_bytes": 0, "month_bytes": 0, "part_bytes": 0},
        "outbox": {"waiting": 0, "waiting_bytes": 0, "dropped_records": 0},
        "space": {"free_bytes": 8_000_000_000, "total_bytes": 16_000_000_000, "unwritable": ""},
        "fault": "",
        "identity": "",
        "guard": {"rung": "serving", "why": "", "entries": [], "software": {}},
    }
    for key, value in changes.items():
        if key.startswith("news__"):
            news[key.removeprefix("news__")] = value
        else:
            found[key] = value
    return {"standing": news, **found}


def refused(for_s: int, times: int) -> dict[str, Any]:
    """What the daemon of a device says that the broker has refused."""
    return {
        "news__link_up": False,
        "news__link_reason": "Not authorized",
        "news__refused_since_ms": NOW_MS - for_s * 1000,
        "news__refusals": times,
    }


def test_a_device_that_is_well_says_so_first_and_asks_for_nothing() -> None:
    lines = as_text(status(), NOW_S).splitlines()
    assert lines[0] == "cam-1: all is well"
    assert lines[-1] == "  nothing"
    page = "\n".join(lines)
    assert "digits 2.0.0" in page
    assert "(2 h)" in page
    assert "connected, last heard 12 s ago" in page
    assert "1234 inputs since the start, 1 failed, 2 refused, up to " in page
    assert "; 1.5 ms, 95 % within 2.25 ms" in page
    assert "assignment 4 is rolled back (crash: died on trial)" in page
    assert "all of it has arrived; nothing was lost" in page
    assert "8 GB free of 16 GB" in page
    assert "58 MB of memory, 41 °C" in page


@pytest.mark.parametrize(
    ("changes", "what", "do"),
    [
        ({"agent_process": None}, "not running", "systemctl start"),
        ({"active": None}, "no model", "wait for the fleet"),
        (
            {"active": None, "emptied": "withdrawn by the fleet: ghosts"},
            "withdrawn by the fleet: gh",
            "another",
        ),
        ({"active": None, "device": None}, "no model", "edge-agent install"),
        ({"news__model": None}, "cannot be opened", "edge-agent doctor"),
        ({"news__golden_agrees": False}, "wrong answers", "edge-agent rollback"),
        ({"news__drifting": ["data-drift"]}, "inputs are not", "sensor"),
        ({"news__drifting": ["prediction-drift"]}, "answers are not", "some answers"),
        ({"news__drifting": ["concept-drift"]}, "labels say", "made anew"),
        ({"news__link_up": False, "news__link_reason": "no route"}, "no route", "network"),
        (refused(3_600, 70), "the broker refuses this device since", "enroll --force"),
        (refused(3_600, 70), "(60 min), 70 times; now: Not authorized", "was revoked"),
        (refused(20, 5), "no connection to the fleet (Not authorized)", "network"),
        (refused(3_600, 2), "no connection to the fleet (Not authorized)", "network"),
        ({"news__heard_ms": NOW_MS - 3_600_000}, "does not answer", "server"),
        ({"news__heard_ms": NOW_MS - 3_600_000}, "does not answer", "was revoked"),
        ({"news__time_ms": NOW_MS - 600_000}, "written nothing for 10 min", "log"),
        ({"guard": {"rung": "abstain", "why": "no way left", "entries": []}}, "no way left", "rollback"),
        (
            {"guard": {"rung": "serving", "entries": [QUARANTINED]}},
            "edgetpu/EDGETPU is not used (runtime-hung: no answer)",
            "edge-agent quarantine lift edgetpu/EDGETPU",
        ),
        ({"fault": "state.json was damaged"}, "state.json was damaged", "start the agent"),
        (
            {"identity": "config.json is 0 bytes"},
            "cannot be read: config.json",
            "enrol anew",
        ),
        ({"identity": "config.json is torn (its copy counts)"}, "config.json is torn", "restart the agent"),
        ({"space": {"free_bytes": 1, "total_bytes": 1000, "unwritable": ""}}, "has 1 B left", "free some"),
        (
            {
                "space": {"free_bytes": 0, "total_bytes": 1000, "unwritable": "No space left on device"},
                "news__time_ms": NOW_MS - 600_000,  # of course
            },
            "nothing can be stored on the disk: No space left",
            "free some",
        ),
        (
            {"outbox": {"waiting": 9, "waiting_bytes": 60 << 20, "dropped_records": 0}},
            "fills up",
            "connect the device",
        ),
    ],
    ids=str,
)
def test_each_trouble_is_named_with_what_to_do(changes: dict[str, Any], what: str, do: str) -> None:
    found = status(**changes)
    ((said, advice),) = find_troubles(found, NOW_S)
    assert what in said
    assert do in advice
    page = as_text(found, NOW_S)
    assert page.splitlines()[0].endswith("NEEDS ATTENTION")
    assert said in page


def test_old_news_of_a_daemon_that_has_stopped_is_not_shown_as_if_it_were_so() -> None:
    page = as_text(status(agent_process=None, news__drifting=["data-drift"]), NOW_S)
    assert "connected" not in page
    assert "since" not in page
    assert "1. the agent is not running" in page
    assert "  2. " not in page


def test_a_device_without_a_fleet_is_not_told_to_look_for_one() -> None:
    found = status(device=None, fleet=None, server=None, profile=None, news__link_up=False, news__heard_ms=0)
    assert list(find_troubles(found, NOW_S)) == []
    assert "not enrolled" in as_text(found, NOW_S)


def test_lost_records_are_named() -> None:
    outbox = {"waiting": 3, "waiting_bytes": 2500, "dropped_records": 12}
    page = as_text(status(outbox=outbox), NOW_S)
    assert "3 (2.5 kB) wait for the server; 12 records were lost\n" in page
    space = {"free_bytes": 0, "total_bytes": 9, "unwritable": "No space left on device"}
    page = as_text(status(outbox=outbox, news__dropped_records=15, space=space), NOW_S)
    assert "; 15 records were lost until the disk failed\n" in page, "the daemon counts what it cannot write"


def test_what_answers_in_the_place_of_what_should_is_named_with_the_reason() -> None:
    active = {**BUNDLE, "runs": "int8 in edgetpu on EDGETPU"}
    model = {
        "bundle": BUNDLE["bundle"],
        "name": "digits",
        "version": "2.0.0",
        "artifact": "int8",
        "runtime": "litert 2.3.0 CPU",
        "fallback": "not int8 in edgetpu on EDGETPU: quarantined",
    }
    page = as_text(status(active=active, news__model=model), NOW_S)
    assert "answers now  digits 2.0.0, int8 in litert on CPU; not int8 in edgetpu on EDGETPU: quar" in page
    model["runtime"] = "edgetpu 2.3.0 EDGETPU"
    assert "answers now" not in as_text(status(active=active, news__model=model), NOW_S)
    model["bundle"] = "sha256:" + "9" * 64
    assert "answers now" in as_text(status(active=active, news__model=model), NOW_S)
    model["fallback"] = ""
    page = as_text(status(active=active, news__model=model), NOW_S)
    assert "answers now  digits 2.0.0, int8 in edgetpu on EDGETPU\n" in page


def test_news_that_could_not_be_written_say_nothing_of_the_model() -> None:
    space = {"free_bytes": 9, "total_bytes": 9, "unwritable": "Read-only file system"}
    told = [what for what, _ in find_troubles(status(space=space, news__model=None), NOW_S)]
    assert told == ["nothing can be stored on the disk: Read-only file system"]
    assert [what for what, _ in find_troubles(status(news__model=None), NOW_S)] == [
        "the model cannot be opened"
    ]
