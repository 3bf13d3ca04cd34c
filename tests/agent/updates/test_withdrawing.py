"""What becomes of bundles that the fleet withdraws, wherever they are, and of those that come later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from agent_bundles import build
from fault_device import Life, served
from update_host import Host

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.errors import InstallRefused
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce, install
from edge_agent.updates.slots import Event, Fact, Held, Phase, Slot, Slots
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_agent.updates.withdrawing import next_parting
from edge_agent.worker import Then, Work
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.digest import digest_of
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.messages import Assignment, Progress
from edge_contracts.messages import Phase as Told
from edge_contracts.withdrawal import Withdrawn

KEY = PrivateKey.generate()
TRUSTED = TrustedKeys.of([KEY.public])
ONE, TWO = (open_bundle(build(version=version, key=KEY)) for version in ("1", "2"))
WHY = "withdrawn by the fleet: it sees ghosts"
NOW_MS = 1_795_694_400_000


class Waiting(AtOnce):
    """Begins a job and never ends it; says whether it was called off."""

    cancelled = 0

    def begin(self, work: Work, then: Then) -> None:
        """Not now."""
        self.busy = True

    def cancel(self) -> None:
        """No more."""
        self.cancelled += 1
        self.busy = False


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def life(tmp_path: Path) -> Iterator[tuple[Life, str]]:
    made = Life(tmp_path / "life")
    made.make()
    with served(made.archives) as url:
        yield made, url


def started(home: Home, host: Host | None = None, jobs: AtOnce | None = None) -> Updater:
    made = Updater(home, Store(home), None, TRUSTED, host or Host(), jobs or AtOnce(), Random(1))
    made.start()
    return made


def installed(home: Home, *bundles: Bundle) -> Updater:
    made = started(home)
    for bundle in bundles:
        made.stage(bundle, Held(bundle.digest))
        made.judged(Finding(Verdict.HEALTHY))
    return made


def word(*bundles: Bundle, n: int = 1) -> Withdrawn:
    return Withdrawn(n=n, bundles=tuple(bundle.digest for bundle in bundles), reason="it sees ghosts")


def answers(made: Updater) -> str | None:
    return made.slots.bundle_in(made.slots.active)


def test_what_answers_gives_way_to_the_one_before(home: Home) -> None:
    made = installed(home, ONE, TWO)
    made.withdraw(word(TWO))
    assert (answers(made), made.slots.last_good, made.slots.emptied) == (ONE.digest, None, "")
    assert not home.slot(Slot.B).exists(), "a withdrawn bundle is kept"


def test_with_nothing_before_it_nothing_answers_and_the_reason_is_kept(home: Home) -> None:
    installed(home, ONE)
    host = Host()
    made = started(home, host)
    made.withdraw(word(ONE))
    assert (answers(made), host.served[-1]) == (None, None)
    assert (host.told[-1].event, host.told[-1].bundle) == ("withdrawn", ONE.digest)
    again = started(home)
    assert (answers(again), again.slots.emptied) == (None, WHY)


def test_both_withdrawn_the_one_before_does_not_answer_for_a_moment(home: Home) -> None:
    installed(home, ONE, TWO)
    host = Host()
    made = started(home, host)
    host.served.clear()
    made.withdraw(word(ONE, TWO))
    assert answers(made) is None
    assert Slot.A not in host.served
    assert not any(home.slot(slot).exists() for slot in Slot)


def test_one_on_trial_goes_back_and_nothing_is_left_when_it_was_the_first(home: Home) -> None:
    made = installed(home, ONE)
    made.stage(TWO, Held(TWO.digest))
    assert made.slots.phase is Phase.TRIAL
    made.withdraw(word(TWO))
    assert (made.slots.phase, answers(made)) == (Phase.IDLE, ONE.digest)
    made.withdraw(word(n=2))
    made.stage(TWO, Held(TWO.digest))
    made.withdraw(word(ONE, TWO, n=3))
    assert (made.slots.phase, answers(made), made.slots.emptied) == (Phase.IDLE, None, WHY)


def test_one_that_is_being_checked_is_refused_and_its_check_called_off(home: Home) -> None:
    installed(home, ONE)
    jobs = Waiting()
    made = started(home, Host(), jobs)
    made.advance(Event.STAGED, Fact(held=Held(TWO.digest)))
    assert made.slots.bundle_in(made.slots.candidate) == TWO.digest
    made.withdraw(word(TWO))
    assert made.slots.bundle_in(made.slots.candidate) is None
    assert (answers(made), jobs.cancelled) == (ONE.digest, 1)


def test_one_that_is_put_in_place_when_it_is_withdrawn_does_not_run(home: Home) -> None:
    made = installed(home, ONE)
    made.withdraw(word(TWO))
    made.stage(TWO, Held(TWO.digest))
    assert (made.slots.phase, answers(made)) == (Phase.IDLE, ONE.digest)


def test_a_device_that_lost_power_once_the_word_was_stored_answers_with_nothing_withdrawn(home: Home) -> None:
    made = installed(home, ONE, TWO)
    Store(home).save(replace(made.slots, withdrawn=word(TWO)))
    host = Host()
    again = started(home, host)
    assert answers(again) == ONE.digest
    assert Slot.B not in host.served


def test_an_old_word_that_comes_again_says_nothing_and_a_later_one_counts(home: Home) -> None:
    made = installed(home, ONE)
    made.withdraw(word(TWO, n=5))
    for n in (5, 4):
        made.withdraw(word(ONE, n=n))
        assert answers(made) == ONE.digest
    made.withdraw(word(ONE, n=6))
    assert answers(made) is None


def test_nobody_at_the_device_installs_it_until_the_fleet_says_otherwise(home: Home, tmp_path: Path) -> None:
    archive = tmp_path / "two.bundle"
    archive.write_bytes(build(version="2", key=KEY))
    made = installed(home, ONE)
    two = open_bundle(archive)
    made.withdraw(word(two))
    with pytest.raises(InstallRefused, match="withdrawn by the fleet: it sees ghosts"):
        install(home, archive, TRUSTED)
    started(home).withdraw(word(n=2))
    assert install(home, archive, TRUSTED).phase is Phase.IDLE
    slots = Store(home).slots
    assert slots.bundle_in(slots.active) == two.digest


def assigned(life: Life, name: str, number: int, **fields: bool) -> Assignment:
    content = life.archive(name).read_bytes()
    document = {
        "device": "cam-1",
        "number": number,
        "bundle": life.digest(name),
        "archive": digest_of(content),
        "archive_bytes": len(content),
        "url_path": f"{name}.bundle",
        "counter": number,
    }
    return Assignment.model_validate(document | fields)


def of_life(life: Life, url: str, jobs: AtOnce | None = None) -> Updater:
    config = read_config(life.home)
    assert config is not None
    at = config.model_copy(update={"server": url})
    trusted = trusted_publishers(life.home, config)
    made = Updater(life.home, Store(life.home), at, trusted, Host(), jobs or AtOnce(), Random(1))
    made.start()
    return made


def said(made: Updater) -> tuple[Told, str]:
    told = made.slots.progress
    assert isinstance(told, Progress)
    return told.phase, told.code


def test_the_server_reads_what_became_of_the_assignment_that_brought_it(life: tuple[Life, str]) -> None:
    made = of_life(*life)
    made.assigned(assigned(life[0], "1", 1), NOW_MS)
    made.judged(Finding(Verdict.HEALTHY))
    assert said(made) == (Told.CONFIRMED, "")
    made.withdraw(Withdrawn(n=1, bundles=(life[0].digest("1"),)))
    assert said(made) == (Told.ROLLED_BACK, "withdrawn")
    made.assigned(assigned(life[0], "1", 1), NOW_MS)
    assert (said(made), made.slots.active) == ((Told.ROLLED_BACK, "withdrawn"), None)


def test_an_assignment_of_it_is_refused_also_while_it_is_being_fetched(life: tuple[Life, str]) -> None:
    jobs = Waiting()
    made = of_life(*life, jobs)
    made.assigned(assigned(life[0], "1", 1), NOW_MS)
    assert (said(made), jobs.busy) == ((Told.DOWNLOADING, ""), True)
    made.withdraw(Withdrawn(n=1, bundles=(life[0].digest("1"),)))
    made.assigned(assigned(life[0], "1", 1), NOW_MS)
    assert (said(made), jobs.busy) == ((Told.REFUSED, "withdrawn"), False)
    made.assigned(assigned(life[0], "1", 2), NOW_MS)
    assert said(made) == (Told.REFUSED, "withdrawn")
    made.withdraw(Withdrawn(n=2))
    made.assigned(assigned(life[0], "1", 3), NOW_MS)
    assert said(made) == (Told.DOWNLOADING, "")


def test_one_that_lies_ready_goes(life: tuple[Life, str]) -> None:
    made = of_life(*life)
    made.assigned(assigned(life[0], "1", 1), NOW_MS)
    made.judged(Finding(Verdict.HEALTHY))
    made.assigned(assigned(life[0], "2", 2, hold=True), NOW_MS)
    assert said(made) == (Told.READY, "")
    made.withdraw(Withdrawn(n=1, bundles=(life[0].digest("2"),)))
    assert said(made) == (Told.REFUSED, "withdrawn")
    assert (answers(made), list(made.slots.held)) == (life[0].digest("1"), [made.slots.active])


def test_nothing_is_parted_from_while_nothing_is_withdrawn() -> None:
    assert next_parting(Slots(held={Slot.A: Held(ONE.digest)}, active=Slot.A)) is None
