"""Statements about keys and releases: what they say, who signed them, what is not one."""

from __future__ import annotations

import json

import pytest

from edge_contracts import dsse
from edge_contracts.errors import FormatInvalid, FormatTooNew, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.signing import PAYLOAD_TYPE
from edge_contracts.trust import (
    KEYS_TYPE,
    RELEASE_TYPE,
    KeyStatement,
    ReleaseNote,
    open_keys,
    open_release,
    sign_keys,
    sign_release,
)

OLD, NEW, STRANGER = (PrivateKey.generate() for _ in range(3))
TRUSTED = TrustedKeys.of([OLD.public])
STATEMENT = KeyStatement(fleet="plant", counter=1, add=(NEW.public.base64,), retire=(OLD.public.key_id,))
NOTE = ReleaseNote(bundle="sha256:" + "0" * 64, counter=3)


def test_what_was_signed_is_read_back_with_its_signer() -> None:
    assert open_keys(sign_keys(STATEMENT, OLD), TRUSTED) == (STATEMENT, OLD.public.key_id)
    assert open_release(sign_release(NOTE, OLD), TRUSTED) == NOTE


@pytest.mark.parametrize("sign", [lambda key: sign_keys(STATEMENT, key), lambda key: sign_release(NOTE, key)])
def test_a_stranger_and_a_flipped_byte_are_refused(sign: object) -> None:
    assert callable(sign)
    open_one = open_keys if sign(OLD) == sign_keys(STATEMENT, OLD) else open_release
    with pytest.raises(KeyUnknown):
        open_one(sign(STRANGER), TRUSTED)
    envelope = json.loads(sign(OLD))
    for field in ("payload", "sig"):
        changed = json.loads(json.dumps(envelope))
        part = changed if field == "payload" else changed["signatures"][0]
        part[field] = ("B" if part[field][0] == "A" else "A") + part[field][1:]
        with pytest.raises(SignatureInvalid):
            open_one(json.dumps(changed).encode(), TRUSTED)
    with pytest.raises(SignatureInvalid, match="not a DSSE envelope"):
        open_one(b"[]", TRUSTED)


def test_an_envelope_of_another_kind_is_not_a_statement() -> None:
    with pytest.raises(SignatureInvalid, match="expected"):
        open_keys(sign_release(NOTE, OLD), TRUSTED)
    with pytest.raises(SignatureInvalid, match="expected"):
        open_release(dsse.seal(PAYLOAD_TYPE, b"{}", OLD), TRUSTED)


def test_what_is_signed_and_makes_no_sense_is_refused_on_one_line() -> None:
    with pytest.raises(FormatInvalid, match=r"expected .edgefleet"):
        open_keys(dsse.seal(KEYS_TYPE, b"{}", OLD), TRUSTED)
    newer = b'{"format": "edgefleet.release-note/2"}'
    with pytest.raises(FormatTooNew):
        open_release(dsse.seal(RELEASE_TYPE, newer, OLD), TRUSTED)
    with pytest.raises(FormatInvalid, match="add"):
        bad = json.dumps({"format": "edgefleet.key-statement/1", "counter": 1, "add": ["x"]}).encode()
        open_keys(dsse.seal(KEYS_TYPE, bad, OLD), TRUSTED)


@pytest.mark.parametrize(
    ("counter", "while_floor", "floor", "allowed"),
    [
        (3, None, 2, True),
        (3, None, 3, True),
        (3, None, 4, False),
        (3, 5, 5, True),
        (3, 5, 6, False),  # the device has gone on since: the permission is over
    ],
)
def test_a_permission_to_go_back_ends_when_the_device_has_gone_on(
    counter: int, while_floor: int | None, floor: int, allowed: bool
) -> None:
    note = ReleaseNote(bundle=NOTE.bundle, counter=counter, while_floor=while_floor)
    assert note.permits(floor) is allowed


def test_a_key_that_counts_no_longer_is_named_as_such() -> None:
    former = TrustedKeys({}, {OLD.public.key_id: OLD.public}, {NEW.public.key_id: NEW.public})
    with pytest.raises(KeyUnknown, match="is retired here"):
        open_keys(sign_keys(STATEMENT, OLD), former)
    with pytest.raises(KeyUnknown, match="is revoked here"):
        open_keys(sign_keys(STATEMENT, NEW), former)
    assert open_keys(sign_keys(STATEMENT, OLD), former.standing)[1] == OLD.public.key_id
    with pytest.raises(KeyUnknown, match="is revoked here"):
        open_keys(sign_keys(STATEMENT, NEW), former.standing)
    assert open_keys(sign_keys(STATEMENT, NEW), former.ever)[1] == NEW.public.key_id
    assert open_keys(sign_keys(STATEMENT, NEW), former.plus(NEW.public))[1] == NEW.public.key_id
