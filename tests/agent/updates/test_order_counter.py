"""What is ordered at the device is done once and answered once, with real slots and no daemon around them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest
from agent_bundles import KEY, build
from update_host import Host

from edge_agent.device.config import trust, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.updates import orders
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce
from edge_agent.updates.order_counter import OrderCounter
from edge_agent.updates.orders import Answer, Kind, Order
from edge_agent.updates.slots import Tell
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_agent.worker import Then, Work
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey
from edge_contracts.model import canonical_json, parse_json

NUMBERS = itertools.count(1)


class Waiting(AtOnce):
    """A worker that holds its jobs back until it is let go."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Work, Then]] = []

    def begin(self, work: Work, then: Then) -> None:
        self.jobs.append((work, then))

    def let_go(self) -> None:
        while self.jobs:
            super().begin(*self.jobs.pop(0))


@dataclass
class Desk(Host):
    """A device whose slots tell the counter what happens, and that remembers what else was asked of it."""

    home: Home
    worker: AtOnce = field(default_factory=AtOnce)
    trust_changes: int = 0
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.home.make()
        self.home.orders.mkdir()
        trust(self.home, KEY.public)
        trusted = trusted_publishers(self.home, None)
        self.updater = Updater(self.home, Store(self.home), None, trusted, self, self.worker, Random(1))
        self.counter = OrderCounter(
            self.home, None, self.updater, self.changed_trust, self.feedback, self.lift, self.rotate
        )
        self.updater.start()

    def tell(self, tell: Tell) -> None:
        super().tell(tell)
        self.counter.tell(tell)

    def changed_trust(self) -> None:
        self.trust_changes += 1

    def feedback(self, request: str, label: str) -> str:
        self.asked.append(("feedback", request, label))
        return "taken"

    def lift(self, subject: str) -> str:
        self.asked.append(("lift", subject))
        return "lifted"

    def rotate(self) -> str:
        self.asked.append(("rotate",))
        return "rotated"

    def order(self, kind: Kind, bundle: bytes = b"", **rest: object) -> str:
        """Lay an order down; its name."""
        name = f"{next(NUMBERS):04}"
        if bundle:
            (self.home.orders / f"{name}.bundle").write_bytes(bundle)
            rest["archive"] = f"{name}.bundle"
        order = Order.model_validate({"kind": kind, **rest})
        (self.home.orders / f"{name}.order").write_bytes(canonical_json(order))
        return name

    def answer(self, name: str) -> tuple[str, str] | None:
        """What an order was answered; None while it was not."""
        try:
            found = parse_json(Answer, (self.home.orders / f"{name}.answer").read_bytes(), "an answer")
        except FileNotFoundError:
            return None
        return found.code, found.detail

    def done(self, kind: Kind, bundle: bytes = b"", **rest: object) -> tuple[str, str] | None:
        """Order something that is answered at once."""
        name = self.order(kind, bundle, **rest)
        self.counter.serve()
        return self.answer(name)

    def confirm(self) -> None:
        self.updater.judged(Finding(Verdict.HEALTHY))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Home(tmp_path / "home"))


def test_an_install_is_answered_when_its_trial_begins_and_no_other_begins_before_its_end(desk: Desk) -> None:
    first, second = build(version="1"), build(version="2")
    assert desk.done("install", first) == (
        "",
        "installed; on trial with live inputs, see edge-agent status",
    )
    code, told = desk.done("install", second) or ("", "")
    assert code == "install-refused" and "an update is under way" in told
    desk.confirm()
    assert desk.done("install", first) == ("", "it is the bundle that runs already")
    assert desk.done("install", second) == (
        "",
        "installed; on trial with live inputs, see edge-agent status",
    )


def test_an_install_that_fails_its_check_is_answered_with_why(desk: Desk) -> None:
    wrong = build(version="1", expected=np.full((16, 3), 0.5, np.float32))
    code, told = desk.done("install", wrong) or ("", "")
    assert code and code == desk.told[-1].code
    assert told == f"not installed: {desk.told[-1].detail}"
    assert not desk.updater.is_busy


def test_what_is_no_bundle_is_refused_with_its_own_code(desk: Desk) -> None:
    code, told = desk.done("install", b"not a bundle") or ("", "")
    assert code == "bundle-invalid" and told
    assert not desk.updater.is_busy


def test_the_next_order_waits_for_the_answer_of_an_install(tmp_path: Path) -> None:
    worker = Waiting()
    desk = Desk(Home(tmp_path / "home"), worker)
    install, lift = desk.order("install", build(version="1")), desk.order("lift", subject="npu")
    desk.counter.serve()
    desk.counter.serve()
    assert (desk.answer(install), desk.answer(lift), desk.asked) == (None, None, [])
    worker.let_go()
    assert desk.answer(install) is not None and desk.answer(lift) is None
    desk.counter.serve()
    assert desk.answer(lift) == ("", "lifted")


def test_an_install_gives_way_to_what_the_server_assigns_and_only_it_is_answered_for(tmp_path: Path) -> None:
    desk = Desk(Home(tmp_path / "home"), Waiting())
    archive = build(version="1")
    own, other = open_bundle(archive).digest, open_bundle(build(version="2")).digest
    name = desk.order("install", archive)
    desk.counter.serve()
    for event in ("trial-started", "refused", "rolled-back"):
        desk.counter.tell(Tell(event, other))
    desk.counter.tell(Tell("staged", own))
    assert desk.answer(name) is None  # none of these is the end of it
    desk.counter.tell(Tell("assigned", assignment=7))
    assert desk.answer(name) == ("superseded", "not installed: the server has assigned another")
    desk.counter.tell(Tell("refused", own, None, "late", "too late"))
    assert desk.answer(name) == ("superseded", "not installed: the server has assigned another")


def test_a_refusal_without_a_code_is_a_refusal_all_the_same(tmp_path: Path) -> None:
    desk = Desk(Home(tmp_path / "home"), Waiting())
    archive = build(version="1")
    name = desk.order("install", archive)
    desk.counter.serve()
    desk.counter.tell(Tell("rolled-back", open_bundle(archive).digest, None, "", "nobody said why"))
    assert desk.answer(name) == ("refused", "not installed: nobody said why")


def test_going_back_needs_somewhere_to_go(desk: Desk) -> None:
    code, told = desk.done("rollback") or ("", "")
    assert code == "no-last-good" and "no bundle to go back to" in told
    archives = [build(version="1"), build(version="2")]
    for archive in archives:
        desk.done("install", archive)
        desk.confirm()
    assert desk.done("rollback") == ("", "went back to the last good bundle")
    slots = desk.updater.slots
    assert slots.bundle_in(slots.active) == open_bundle(archives[0]).digest


def test_a_way_back_that_the_disk_does_not_take_is_not_said_to_be_gone(desk: Desk) -> None:
    for version in ("1", "2"):
        desk.done("install", build(version=version))
        desk.confirm()
    blocked = desk.home.state.with_name(f"{desk.home.state.name}.new")
    blocked.mkdir()
    (blocked / "x").write_bytes(b"")
    for _ in range(2):  # the second finds the first waiting, and adds none
        code, told = desk.done("rollback") or ("", "")
        assert code == "home-invalid" and "takes no new state" in told


def test_trust_is_changed_and_told_on(desk: Desk) -> None:
    key = PrivateKey.generate().public
    assert desk.done("trust", keys=[key.base64]) == ("", "trusted")
    assert key in trusted_publishers(desk.home, None).keys.values()
    assert desk.trust_changes == 1
    assert desk.done("distrust", keys=[key.base64]) == ("", "trusted no longer")
    assert key not in trusted_publishers(desk.home, None).keys.values()
    assert desk.trust_changes == 2
    assert desk.done("distrust") == ("", "trusted no longer")
    assert desk.trust_changes == 2  # no key, no change


def test_what_is_ordered_is_handed_on_once(desk: Desk) -> None:
    assert desk.done("feedback", request="r1", label="cat") == ("", "taken")
    assert desk.done("lift", subject="npu") == ("", "lifted")
    assert desk.done("rotate") == ("", "rotated")
    name = desk.order("lift", subject="gpu")
    desk.counter.serve()
    (desk.home.orders / f"{name}.answer").unlink()  # as if the disk had not taken it
    desk.counter.serve()
    assert desk.asked == [("feedback", "r1", "cat"), ("lift", "npu"), ("rotate",), ("lift", "gpu")]
    assert orders.take(desk.home, {name}) == []
