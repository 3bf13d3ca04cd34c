"""What becomes of bundles whose publisher's key is retired or revoked, wherever they have got to."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from agent_bundles import build
from fault_device import Life, served
from update_host import Host

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.updates import installer
from edge_agent.updates.download import fetch
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce
from edge_agent.updates.slots import Event, Fact, Held, Phase, Slot
from edge_agent.updates.store import Store
from edge_agent.updates.updater import KEY_REVOKED, Updater
from edge_agent.worker import Then, Work
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.digest import digest_of
from edge_contracts.errors import KeyUnknown
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.messages import Assignment
from edge_contracts.messages import Phase as Told

OURS, STOLEN = PrivateKey.generate(), PrivateKey.generate()
GOOD = open_bundle(build(version="1", key=OURS))
BAD = open_bundle(build(version="2", key=STOLEN))
BOTH = TrustedKeys.of([OURS.public, STOLEN.public])
FORMER = {STOLEN.public.key_id: STOLEN.public}
REVOKED = TrustedKeys({OURS.public.key_id: OURS.public}, revoked=FORMER)
STOPPED = TrustedKeys(REVOKED.keys, revoked=FORMER, stopped=frozenset(FORMER))
RETIRED = TrustedKeys(REVOKED.keys, retired=FORMER)


class Later(AtOnce):
    """Does nothing: a check that is begun does not end."""

    def begin(self, work: Work, then: Then) -> None:
        """Not now."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def started(home: Home, host: Host, trusted: TrustedKeys, jobs: AtOnce | None = None) -> Updater:
    made = Updater(home, Store(home), None, trusted, host, jobs or AtOnce(), Random(1))
    made.start()
    return made


def installed(home: Home, *bundles: Bundle) -> Updater:
    made = started(home, Host(), BOTH)
    for bundle in bundles or (GOOD, BAD):
        made.stage(bundle, Held(bundle.digest))
        made.judged(Finding(Verdict.HEALTHY))
    return made


def answers(made: Updater) -> str | None:
    return made.slots.bundle_in(made.slots.active)


def test_what_answers_gives_way_to_the_last_good_bundle_of_another_key(home: Home) -> None:
    made = installed(home)
    assert answers(made) == BAD.digest
    made.trust(REVOKED)
    assert answers(made) == GOOD.digest
    assert made.slots.last_good is None
    assert not home.slot(Slot.B).exists(), "a bundle of a stolen key is kept"


def test_a_revocation_that_came_while_nothing_ran_is_followed_at_the_start(home: Home) -> None:
    installed(home)
    host = Host()
    made = started(home, host, REVOKED)
    assert answers(made) == GOOD.digest
    assert ("damaged", KEY_REVOKED) in host.codes()


def test_with_nothing_else_it_goes_on_answering_and_says_so(home: Home) -> None:
    installed(home, BAD)
    for _ in range(2):
        host = Host()
        made = started(home, host, REVOKED)
        assert answers(made) == BAD.digest
        assert host.served[-1] is made.slots.active
        assert host.codes()[-1] == ("revoked-runs", KEY_REVOKED)


def test_with_nothing_else_it_stops_where_the_revocation_says_stop(home: Home) -> None:
    installed(home, BAD)
    host = Host()
    made = started(home, host, STOPPED)
    assert answers(made) is None
    assert host.served[-1] is None


def test_the_last_good_bundle_of_a_revoked_key_is_nothing_to_go_back_to(home: Home) -> None:
    made = installed(home, BAD, GOOD)
    made.trust(REVOKED)
    assert answers(made) == GOOD.digest
    assert made.slots.last_good is None
    assert not home.slot(Slot.A).exists()


def test_a_candidate_on_trial_goes_back(home: Home) -> None:
    made = installed(home, GOOD)
    made.stage(BAD, Held(BAD.digest))
    assert made.slots.phase is Phase.TRIAL
    made.trust(REVOKED)
    assert (made.slots.phase, answers(made)) == (Phase.IDLE, GOOD.digest)
    assert BAD.digest not in {held.bundle for held in made.slots.held.values()}


def test_the_last_good_bundle_is_parted_from_while_another_is_on_trial(home: Home) -> None:
    made = installed(home, BAD)
    made.stage(GOOD, Held(GOOD.digest))
    assert (made.slots.phase, made.slots.bundle_in(made.slots.last_good)) == (Phase.TRIAL, BAD.digest)
    made.trust(REVOKED)
    assert (made.slots.phase, answers(made)) == (Phase.TRIAL, GOOD.digest)
    assert made.slots.last_good is None
    assert not home.slot(Slot.A).exists(), "a bundle of a stolen key is kept"


def test_a_candidate_that_is_being_checked_is_refused(home: Home) -> None:
    installed(home, GOOD)
    host = Host()
    made = started(home, host, BOTH, Later())
    installer.place(home, BAD, Slot.B)
    made.advance(Event.STAGED, Fact(held=Held(BAD.digest)))
    assert made.slots.candidate is Slot.B
    made.trust(REVOKED)
    assert made.slots.candidate is None
    assert host.codes()[-1] == ("refused", KEY_REVOKED)


def test_a_retired_key_keeps_what_it_has_signed_and_signs_nothing_new(home: Home) -> None:
    made = installed(home)
    made.trust(RETIRED)
    again = started(home, Host(), RETIRED)
    assert answers(again) == BAD.digest
    assert again.slots.bundle_in(again.slots.last_good) == GOOD.digest
    with pytest.raises(KeyUnknown, match="is retired here"):
        installer.verify_slot(home, Slot.B, RETIRED)


def test_an_archive_that_was_downloaded_before_the_revocation_is_refused(tmp_path: Path) -> None:
    life = Life(tmp_path / "life")
    life.make()
    content = life.archive("1").read_bytes()
    config = read_config(life.home)
    assert config is not None
    with served(life.archives) as url:
        fetch(f"{url}/1.bundle", digest_of(content), len(content), life.home.downloads, "cam-1", "secret")
    key = trusted_publishers(life.home, config)
    gone = TrustedKeys({OURS.public.key_id: OURS.public}, revoked=key.keys)
    made = Updater(life.home, Store(life.home), config, gone, Host(), AtOnce(), Random(1))
    made.start()
    made.assigned(
        Assignment(
            device="cam-1",
            number=1,
            bundle=life.digest("1"),
            archive=digest_of(content),
            archive_bytes=len(content),
            url_path="1.bundle",
            counter=1,
        ),
        1_795_694_400_000,
    )
    progress = made.slots.progress
    assert progress is not None
    assert (progress.phase, progress.code) == (Told.REFUSED, "key-unknown")
    assert "is revoked here" in progress.detail
    assert not list(life.home.downloads.glob("*.bundle"))
