"""The dispatcher on a real database, with a broker that loses what it is told to lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fleet_device import eventually
from fleet_rows import FleetRows, digest
from sqlalchemy import text, update

from edge_contracts.envelope import unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Assignment, Phase, Progress
from edge_contracts.withdrawal import Withdrawn
from edge_fleet import orders, schema
from edge_fleet.access.directors import Directors
from edge_fleet.dispatch import Dispatcher
from edge_fleet.events import EventBus
from edge_fleet.lineage import stages
from edge_fleet.resending import Resending
from edge_fleet.store import Store

DIRECTOR = PrivateKey.generate()


class Wire:
    """What arrives at the devices; the first `lost` messages do not."""

    def __init__(self, lost: int = 0) -> None:
        self.sent, self.arrived, self.lost = 0, list[Assignment](), lost

    def publish(self, topic: str, payload: bytes) -> bool:
        """QoS 0: the sender hears of no loss."""
        self.sent += 1
        if self.sent > self.lost:
            self.arrived.append(unseal(Assignment, payload, topic, DIRECTOR.public))
        return True


@contextmanager
def dispatching(store: Store, wire: Wire, again: Resending) -> Iterator[Dispatcher]:
    found = Dispatcher(store, EventBus(), Directors.only(DIRECTOR), "f", wire.publish, lambda: 1000, again)
    found.start()
    try:
        yield found
    finally:
        found.stop()


def assigned(store: Store, *devices: str) -> None:
    rows = FleetRows(store, lambda: 1000)
    rows.enrol(*devices)
    rows.publish("1")
    with store.write() as connection:
        for device in devices:
            orders.issue(connection, device, digest("1"), 1000)


def test_an_assignment_that_is_lost_on_its_way_to_a_connected_device_is_sent_again(store: Store) -> None:
    assigned(store, "d")
    wire = Wire(lost=1)
    with dispatching(store, wire, Resending(first_s=0.05, times=10)) as dispatch:
        dispatch.soon(["d"])
        eventually(lambda: wire.arrived, "the assignment")
    assert (wire.arrived[0].device, wire.arrived[0].number) == ("d", 1)


def test_a_device_that_answered_is_left_alone_and_one_that_never_does_not_for_ever(store: Store) -> None:
    assigned(store, "answers", "never")
    wire = Wire()
    with dispatching(store, wire, Resending(first_s=0.05, times=3)) as dispatch:
        with store.write() as connection:
            told = Progress(assignment=1, phase=Phase.DOWNLOADING)
            orders.note_progress(connection, "answers", told, 2000)
        dispatch.soon(["answers", "never"])
        eventually(lambda: len(wire.arrived) == 5, "the first of each, and three more")
        dispatch.soon(["answers"])  # a hello
        eventually(lambda: len(wire.arrived) == 6, "the answer to the hello")
    assert [one.device for one in wire.arrived] == ["answers", *["never"] * 4, "answers"]


def test_what_is_withdrawn_is_said_with_the_assignment_until_the_device_has_stored_it(store: Store) -> None:
    rows = FleetRows(store, lambda: 1000)
    rows.enrol("knows", "with-none", knows=("withdrawn",))
    rows.enrol("older", knows=("shadow",))
    rows.publish("1")
    with store.write() as connection:
        for device in ("knows", "older"):
            orders.issue(connection, device, digest("1"), 1000)
        stages.note(connection, 1, stages.Event.WITHDRAWN, "ada", 1000, "it sees ghosts")
    wire = Wire()
    dispatch = Dispatcher(store, EventBus(), Directors.only(DIRECTOR), "f", wire.publish, lambda: 1000)
    dispatch.send(["knows", "with-none", "older"])
    said = {one.device: one.withdrawn for one in wire.arrived}
    word = Withdrawn(n=1000, bundles=(digest("1"),), reason="digits 1: it sees ghosts")
    assert said == {"knows": word, "with-none": word, "older": None}
    with store.write() as connection:
        connection.execute(
            update(schema.devices)
            .where(schema.devices.c.id == "knows")
            .values(state={"counter": 0, "knows": ["withdrawn"], "withdrawn": 1000})
        )
    dispatch.send(["knows"])
    assert wire.arrived[-1].withdrawn is None


@pytest.mark.parametrize(
    "ask", [lambda found: found.soon(["d"]), Dispatcher.unanswered], ids=["a hello", "a reconnect"]
)
def test_what_could_not_be_sent_while_the_table_was_away_is_sent_when_it_is_back(
    store: Store, caplog: pytest.LogCaptureFixture, ask: Callable[[Dispatcher], None]
) -> None:
    assigned(store, "d")

    def rename(before: str, after: str) -> None:
        with store.write() as connection:
            connection.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

    wire = Wire()
    rename("assignments", "elsewhere")
    with dispatching(store, wire, Resending()) as dispatch:
        ask(dispatch)
        eventually(lambda: "assignments not sent" in caplog.text, "the failure")
        rename("elsewhere", "assignments")
        eventually(lambda: wire.arrived, "the assignment")
