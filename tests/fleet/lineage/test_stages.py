"""Stages: the table walked, the policy at its gate, and the second person."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from agent_bundles import KEY, build
from fleet_rows import FleetRows
from sqlalchemy import select, update

from edge_contracts.keys import TrustedKeys
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.lineage import stages
from edge_fleet.lineage.stages import Event, Policy, Stage
from edge_fleet.registry import examine, publish
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.schema import audit, rollouts
from edge_fleet.store import Store


@pytest.fixture
def published(store: Store) -> Store:
    FleetRows(store, lambda: 5).publish("1")
    with store.write() as connection:
        stages.note(connection, 1, Event.PUBLISHED, "ann/1", 5, "arm-cpu")
    return store


def set_policy(store: Store, wanted: Policy) -> None:
    with store.write() as connection:
        stages.set_policy(connection, wanted, "root", 6)


def note(store: Store, event: Event, actor: str, why: str = "") -> Stage:
    with store.write() as connection:
        return stages.note(connection, 1, event, actor, 7, why)


def rollable(store: Store) -> bool:
    with store.read() as connection:
        try:
            stages.require_rollable(connection, 1)
        except Conflict:
            return False
        return True


def test_every_pair_that_is_not_in_the_table_is_refused() -> None:
    for stage, event in itertools.product(Stage, Event):
        if (stage, event) in stages.TRANSITIONS:
            assert stages.step(stage, event) is stages.TRANSITIONS[stage, event]
        else:
            with pytest.raises(Conflict, match=f"that is {stage} cannot be {event}"):
                stages.step(stage, event)
    assert (Stage.RETIRED, Event.APPROVED) not in stages.TRANSITIONS


def test_without_a_policy_a_candidate_may_be_rolled_out_and_a_retired_one_never(published: Store) -> None:
    assert rollable(published)
    note(published, Event.RETIRED, "bob/2", "answers upside down")
    assert not rollable(published)
    with (
        published.read() as connection,
        pytest.raises(Conflict, match=r"retired: answers upside down; .*reopen"),
    ):
        stages.require_rollable(connection, 1)
    assert note(published, Event.REOPENED, "bob/2") is Stage.CANDIDATE
    assert rollable(published)


def test_the_policy_approved_asks_for_an_approval_by_anybody(published: Store) -> None:
    set_policy(published, Policy.APPROVED)
    assert not rollable(published)
    note(published, Event.APPROVED, "ann/1")
    assert rollable(published)


def test_the_second_person_is_not_the_one_who_published(published: Store) -> None:
    set_policy(published, Policy.SECOND_PERSON)
    with pytest.raises(Forbidden, match="ann/1 published digits@1; somebody else"):
        note(published, Event.APPROVED, "ann/1")
    assert not rollable(published)
    note(published, Event.APPROVED, "bob/2")
    assert rollable(published)


def test_an_approval_of_ones_own_does_not_count_once_the_policy_asks_for_two(published: Store) -> None:
    note(published, Event.APPROVED, "ann/1")
    set_policy(published, Policy.SECOND_PERSON)
    with published.read() as connection, pytest.raises(Conflict, match="a second person must"):
        stages.require_rollable(connection, 1)


def test_a_further_bundle_takes_the_approval_away(published: Store) -> None:
    set_policy(published, Policy.APPROVED)
    note(published, Event.APPROVED, "bob/2")
    assert note(published, Event.PUBLISHED, "cat/3", "raspberry-pi-4") is Stage.CANDIDATE
    assert not rollable(published)


@pytest.mark.parametrize("phase", Phase)
def test_a_further_bundle_waits_for_the_end_of_a_rollout_where_somebody_must_approve(
    published: Store, tmp_path: Path, phase: Phase
) -> None:
    """It would go to the devices of its profile with the next stage, and nobody would be asked."""
    path = tmp_path / "further.bundle"
    path.write_bytes(build(name="digits", version="1", profile="x86-cpu"))
    further = examine(path, path.name, TrustedKeys({KEY.public.key_id: KEY.public}))
    with published.write() as connection:
        plan = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": ["100%"]}
        rollout = rows.create(connection, parse_plan(plan), 1, "ann/1", 5)
        connection.execute(update(rollouts).values(phase=phase))
    set_policy(published, Policy.APPROVED)
    if phase in (Phase.RUNNING, Phase.BAKING, Phase.OPEN, Phase.PAUSED, Phase.HELD):
        told = f"rollout {rollout} is at work with digits@1, and a further bundle"
        with published.write() as connection, pytest.raises(Conflict, match=told):
            publish(connection, [further], tmp_path, "cat/3", 8)
        set_policy(published, Policy.NONE)
    with published.write() as connection:
        assert publish(connection, [further], tmp_path, "cat/3", 8) == 1
        assert stages.stages_of(connection)[1] is Stage.CANDIDATE


def test_each_who_published_a_part_is_no_second_person(published: Store) -> None:
    note(published, Event.PUBLISHED, "cat/3")
    set_policy(published, Policy.SECOND_PERSON)
    with pytest.raises(Forbidden):
        note(published, Event.APPROVED, "cat/3")


def test_a_stage_is_written_down_and_audited(published: Store) -> None:
    note(published, Event.APPROVED, "bob/2", "looked at by the clinic")
    with published.read() as connection:
        steps = stages.history(connection, 1)
        assert [(s.event, s.actor, s.why) for s in steps][-1] == (
            "approved",
            "bob/2",
            "looked at by the clinic",
        )
        row = connection.execute(select(audit).where(audit.c.action == "release approved")).one()
        assert (row.actor, row.subject) == ("bob/2", "digits@1")
        assert stages.stages_of(connection) == {1: Stage.APPROVED}


def test_a_release_that_is_not_there_has_no_stage(published: Store) -> None:
    with published.write() as connection, pytest.raises(NotFound, match="counter 9"):
        stages.note(connection, 9, Event.APPROVED, "bob", 7)
