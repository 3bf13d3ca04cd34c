"""Changes of accounts on their way to a broker."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import FleetRows

from edge_fleet.accounts import Accounts
from edge_fleet.brokers.base import Account
from edge_fleet.brokers.external import ExternalBroker, parse_url
from edge_fleet.enrol import revoke
from edge_fleet.errors import BrokerFailed
from edge_fleet.keys import make_keys, read_keys
from edge_fleet.store import Store


class Noted(ExternalBroker):
    """A broker of somebody else's, with what it was given."""

    def note(self, what: tuple[Any, ...]) -> None:
        deeds.append(what)
        if failing:
            raise BrokerFailed(failing.pop())
        if doing:
            doing.pop()()

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        self.note(("change", sorted(a.user for a in added), sorted(removed)))
        return True

    def update(self, accounts: Sequence[Account]) -> None:
        self.note(("all", [a.user for a in accounts if "." not in a.user]))


deeds: list[tuple[Any, ...]] = []
failing: list[str] = []
doing: list[Any] = []


@pytest.fixture
def accounts(store: Store, tmp_path: Path) -> Accounts:
    make_keys(tmp_path)
    for made in (deeds, failing, doing):
        made.clear()
    FleetRows(store, lambda: 1).enrol("a", "b", "c")
    url = parse_url("mqtt://127.0.0.1:1")
    broker = Noted(url.address, url.tls, url.user, url.password)
    return Accounts(store, read_keys(tmp_path), "f", broker, lambda: 1)


def test_a_device_that_comes_or_goes_is_a_change_of_that_one(accounts: Accounts, store: Store) -> None:
    assert accounts.apply(accounts.device("a", ""))
    with store.write() as connection:
        revoke(connection, "b", "anna", 2)
    accounts.apply(gone="b")
    accounts.apply(accounts.subscriber("t"))
    accounts.apply()
    assert deeds == [("change", ["a"], []), ("change", [], ["b"]), ("all", ["a", "c"]), ("all", ["a", "c"])]


def test_who_was_put_out_while_its_account_was_on_the_way_gets_none(accounts: Accounts, store: Store) -> None:
    wanted = accounts.device("a", "")
    with store.write() as connection:
        revoke(connection, "a", "anna", 2)
    accounts.apply(wanted)
    assert deeds == [("change", [], [])]


def test_those_who_come_while_others_are_given_come_together(accounts: Accounts) -> None:
    given = threading.Event()
    doing.append(lambda: given.wait(20))
    first = threading.Thread(target=accounts.apply, args=(accounts.device("a", ""),))
    first.start()
    while not deeds:
        pass
    others = [threading.Thread(target=accounts.apply, args=(accounts.device(n, ""),)) for n in ("b", "c")]
    for one in others:
        one.start()
    while accounts._asked < 3:
        pass
    given.set()
    for one in (first, *others):
        one.join(20)
    assert deeds == [("change", ["a"], []), ("change", ["b", "c"], [])]


def test_after_a_failure_all_are_given_anew(accounts: Accounts) -> None:
    failing.append("disk full")
    with pytest.raises(BrokerFailed):
        accounts.apply(accounts.device("a", ""))
    accounts.apply(accounts.device("b", ""))
    assert deeds == [("change", ["a"], []), ("all", ["a", "b", "c"])]


def test_a_broker_with_many_accounts_gets_time_to_serve(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edge_fleet.accounts.time.sleep", slept.append)
    monkeypatch.setattr("edge_fleet.accounts.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("edge_fleet.accounts.REST_S_PER_ACCOUNT", 0.5)
    accounts.apply()
    accounts.apply(accounts.device("a", ""))
    assert slept == [0.0, 1.5]  # of three accounts
