"""Whom a device trusts: enrolment, statements of its fleet, a person; and who may say what."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.device import config as device_config
from edge_agent.device.home import Home
from edge_agent.device.trust import (
    FORMER,
    Enrolled,
    Trust,
    added,
    director,
    era,
    publishers,
    removed,
    signers,
    stated,
)
from edge_agent.errors import HomeInvalid, KeyChangeRefused
from edge_contracts.errors import KeyUnknown
from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys

P1, P2, P3, D1, D2 = (PrivateKey.generate() for _ in range(5))
ENROLLED = Enrolled("plant", D1.public.base64, (P1.public.base64,))
BY_P1, BY_D1 = P1.public.key_id, D1.public.key_id


def says(counter: int = 1, **fields: object) -> KeyStatement:
    return KeyStatement.model_validate({"fleet": "plant", "counter": counter, **fields})


def after(statement: KeyStatement, signer: str = BY_P1, before: Trust | None = None) -> Trust:
    changed = stated(ENROLLED, before or Trust(), statement, signer)
    assert changed is not None
    return changed


def names(trust: Trust, enrolled: Enrolled = ENROLLED) -> set[str]:
    return set(publishers(enrolled, trust).keys)


def test_a_key_is_rotated_by_the_old_one_and_then_retired_by_the_new() -> None:
    both = after(says(1, add=(P2.public.base64,)))
    assert names(both) == {BY_P1, P2.public.key_id}
    only = after(says(2, retire=(BY_P1,)), P2.public.key_id, both)
    found = publishers(ENROLLED, only)
    assert (set(found.keys), set(found.retired), set(found.revoked)) == ({P2.public.key_id}, {BY_P1}, set())
    assert BY_P1 not in signers(ENROLLED, only).keys, "a retired key may still change keys"


def test_a_revoked_key_is_gone_for_every_statement_after() -> None:
    gone = after(says(1, add=(P2.public.base64,), revoke=(BY_P1,)))
    assert set(publishers(ENROLLED, gone).revoked) == {BY_P1}
    back = after(says(2, add=(P1.public.base64,)), P2.public.key_id, gone)
    assert names(back) == {P2.public.key_id}


def test_a_statement_that_is_not_newer_changes_nothing() -> None:
    one = after(says(5, add=(P2.public.base64,)))
    for counter in (4, 5):
        assert stated(ENROLLED, one, says(counter, revoke=(BY_P1,)), P2.public.key_id) is None
    assert stated(ENROLLED, one, says(1, revoke=(BY_P1,)), BY_D1) is not None, (
        "directors count for themselves"
    )


def test_the_director_may_revoke_but_not_add() -> None:
    with pytest.raises(KeyChangeRefused, match="may not add"):
        stated(ENROLLED, Trust(), says(add=(P2.public.base64,)), BY_D1)
    two = after(says(add=(P2.public.base64,)))
    assert names(after(says(1, revoke=(BY_P1,)), BY_D1, two)) == {P2.public.key_id}


@pytest.mark.parametrize("signer", [BY_P1, BY_D1], ids=["publisher", "director"])
def test_a_statement_that_leaves_nobody_is_refused(signer: str) -> None:
    for fields in ({"revoke": (BY_P1,)}, {"retire": (BY_P1,)}):
        with pytest.raises(KeyChangeRefused, match="without any publisher"):
            stated(ENROLLED, Trust(), says(1, **fields), signer)


def test_a_director_is_replaced_by_itself_or_by_a_publisher_and_is_out_then() -> None:
    for signer in (BY_D1, BY_P1):
        changed = after(says(director=D2.public.base64), signer)
        assert director(ENROLLED, changed) == D2.public.base64
        assert BY_D1 not in signers(ENROLLED, changed).keys
        assert D2.public.key_id in signers(ENROLLED, changed).keys


def test_a_statement_for_another_fleet_is_refused_and_one_for_all_is_not() -> None:
    with pytest.raises(KeyChangeRefused, match="for fleet other, this device is in plant"):
        stated(ENROLLED, Trust(), says(fleet="other", add=(P2.public.base64,)), BY_P1)
    assert stated(ENROLLED, Trust(), says(fleet=None, add=(P2.public.base64,)), BY_P1) is not None


def test_what_one_fleet_said_is_nothing_to_the_next() -> None:
    old = after(says(9, add=(P2.public.base64,), revoke=(BY_P1,), director=D2.public.base64))
    next_fleet = Enrolled("yard", P3.public.base64, (P1.public.base64,))
    assert names(old, next_fleet) == {BY_P1}
    assert director(next_fleet, old) == P3.public.base64
    assert stated(next_fleet, old, says(1, fleet="yard", add=(P2.public.base64,)), BY_P1) is not None


def test_a_person_has_the_last_word_and_a_later_statement_the_one_after() -> None:
    by_hand = added(Trust(), P2.public)
    assert P2.public.key_id in names(by_hand)
    stolen = after(says(1, revoke=(P2.public.key_id,)), BY_P1, by_hand)
    assert names(stolen) == {BY_P1}, "what a person trusted before the revocation counts on"
    assert set(publishers(ENROLLED, stolen).revoked) == {P2.public.key_id}
    anew = added(stolen, P2.public)
    assert P2.public.key_id in names(anew)
    assert names(removed(anew, P1.public)) == {P2.public.key_id}
    assert names(added(removed(anew, P1.public), P1.public)) == {BY_P1, P2.public.key_id}


def test_a_publisher_that_only_a_director_is_against_may_still_say_who_directs() -> None:
    two = Enrolled("plant", D1.public.base64, (P1.public.base64, P2.public.base64))
    gone = stated(two, Trust(), says(7, revoke=(BY_P1,)), BY_D1)
    assert gone is not None and names(gone, two) == {P2.public.key_id}
    assert BY_P1 in signers(two, gone).keys
    for more in ({"add": (P3.public.base64,)}, {"revoke": (P2.public.key_id,)}, {"director": ""}):
        with pytest.raises(KeyChangeRefused, match="who directs, and only that"):
            stated(two, gone, says(1, **{"director": D2.public.base64, **more}), BY_P1)
    back = stated(two, gone, says(1 << 62, director=D2.public.base64), BY_P1)
    assert back is not None and director(two, back) == D2.public.base64
    assert names(back, two) == {P2.public.key_id}, "it publishes again"
    assert stated(two, back, says(1 << 62, director=D1.public.base64), BY_P1) is None, "heard twice"
    final = stated(two, back, says(1, revoke=(BY_P1,), director=D1.public.base64), P2.public.key_id)
    assert final is not None, "the number of the one that was revoked holds up another publisher"
    assert BY_P1 not in signers(two, final).keys, "revoked by a publisher, and it still speaks"


@pytest.mark.parametrize("by", [BY_P1, P2.public.key_id], ids=["the-first", "the-second"])
def test_whom_a_publisher_or_a_person_is_against_says_nothing_more(by: str) -> None:
    two = Enrolled("plant", D1.public.base64, (P1.public.base64, P2.public.base64))
    muted = stated(two, Trust(), says(1, retire=(by,)), BY_D1)
    assert muted is not None and by in signers(two, muted).keys
    against = P1 if by == BY_P1 else P2
    assert by not in signers(two, removed(muted, against.public)).keys
    other = P2.public.key_id if by == BY_P1 else BY_P1
    silent = stated(two, muted, says(1, retire=(by,)), other)
    assert silent is not None and by not in signers(two, silent).keys


def test_a_device_that_knows_no_publisher_yet_follows_its_director_all_the_same() -> None:
    nobody = Enrolled("plant", D1.public.base64, ())
    led = stated(nobody, Trust(), says(director=D2.public.base64), BY_D1)
    assert led is not None and director(nobody, led) == D2.public.base64


def test_a_director_that_comes_back_counts_on_so_that_nothing_old_is_new() -> None:
    handed = after(says(5, director=D2.public.base64), BY_D1)
    back = stated(ENROLLED, handed, says(1, director=D1.public.base64), D2.public.key_id)
    assert back is not None and director(ENROLLED, back) == D1.public.base64
    assert stated(ENROLLED, back, says(5, director=D2.public.base64), BY_D1) is None


def test_assignments_are_numbered_anew_only_where_a_publisher_says_who_directs() -> None:
    assert era(ENROLLED, after(says(director=D2.public.base64), BY_D1)) == 0
    assert era(ENROLLED, after(says(director=D2.public.base64), BY_P1)) == 1
    assert era(ENROLLED, after(says(director=D1.public.base64), BY_P1)) == 1, "the one that is, confirmed"


def test_who_names_one_director_after_the_other_does_not_fill_the_disk() -> None:
    trust, signer = Trust(), D1
    for _ in range(FORMER + 5):
        following = PrivateKey.generate()
        trust = after(says(1, director=following.public.base64), signer.public.key_id, trust)
        signer = following
    assert trust.fleet is not None and len(trust.fleet.former) == FORMER


def test_a_device_without_a_fleet_follows_its_publishers_and_has_no_director() -> None:
    alone, trust = Enrolled(), added(Trust(), P1.public)
    changed = stated(alone, trust, says(fleet=None, add=(P2.public.base64,)), BY_P1)
    assert changed is not None and names(changed, alone) == {BY_P1, P2.public.key_id}
    with pytest.raises(KeyChangeRefused, match="no director"):
        stated(alone, trust, says(fleet=None, director=D2.public.base64), BY_P1)


def test_a_statement_is_on_the_disk_or_not_followed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    device_config.trust(home, P1.public)
    envelope = sign_keys(says(1, fleet=None, add=(P2.public.base64,)), P1)
    (tmp_path / "trusted.json.new").mkdir()
    with pytest.raises(HomeInvalid):
        device_config.follow(home, None, envelope)
    assert set(device_config.trusted_publishers(home, None).keys) == {BY_P1}
    (tmp_path / "trusted.json.new").rmdir()
    assert device_config.follow(home, None, envelope) is not None
    assert set(device_config.trusted_publishers(home, None).keys) == {BY_P1, P2.public.key_id}
    assert device_config.follow(home, None, envelope) is None, "followed twice"
    with pytest.raises(KeyUnknown):
        device_config.follow(home, None, sign_keys(says(2, fleet=None, add=(P3.public.base64,)), P3))
