"""Dry runs that a server makes: one at a time, apart, and not for ever."""

from __future__ import annotations

import threading

import pytest

from edge_fleet.errors import Conflict, NotFound
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.simulation.defects import Kind
from edge_fleet.simulation.description import parse_fleet
from edge_fleet.simulation.jobs import KEPT, DryRun, DryRuns, Request
from edge_fleet.simulation.study import study

PLAN = parse_plan(
    {
        "format": "edgefleet.rollout/1",
        "release": "digits@2",
        "stages": ["100%"],
        "bake_s": 60,
        "gates": {"install_success": 0.9},
    }
)


def fleet_of(devices: int) -> object:
    return {"format": "edgefleet.fleet/1", "classes": [{"profile": "arm-cpu", "devices": devices}]}


def request(devices: int = 10, runs: int = 2) -> Request:
    return Request(PLAN, parse_fleet(fleet_of(devices)), Kind.INSTALL, (1.0,), runs=runs)


def ended(runs: DryRuns, asked: Request) -> DryRun:
    over = threading.Event()
    name = runs.begin(asked, "anna", 0, lambda _name: over.set())
    assert over.wait(120)
    return runs.get(name)


def test_it_comes_to_what_the_same_dry_run_comes_to_on_the_command_line() -> None:
    asked = request()
    found = ended(DryRuns(), asked)
    assert found.error == "" and found.took_s is not None
    assert found.study == study(asked.plan, asked.fleet, asked.kind, asked.sizes, 1.0, 2, 0, workers=1)


def test_one_is_made_at_a_time_and_one_that_takes_too_long_is_ended() -> None:
    runs = DryRuns(longest_s=2.0)
    over = threading.Event()
    # a hundred thousand devices, hundreds of times: it would take hours
    name = runs.begin(request(100_000, 500), "anna", 0, lambda _name: over.set())
    assert runs.get(name).took_s is None
    with pytest.raises(Conflict, match="one is made at a time"):
        runs.begin(request(), "bert", 0, lambda _name: None)
    assert over.wait(60)
    assert "not through after 2 s" in runs.get(name).error
    assert ended(runs, request()).took_s is not None  # the next may begin


def test_the_last_few_are_kept() -> None:
    runs = DryRuns()
    first = DryRun("first", request(), "anna", 0, 1.0)
    runs._found |= {
        "first": first,
        **{str(n): DryRun(str(n), request(), "anna", 0, 1.0) for n in range(KEPT - 1)},
    }
    assert runs.get("first") is first
    ended(runs, request())
    with pytest.raises(NotFound, match=f"the last {KEPT}"):
        runs.get("first")
