"""Whom the device obeys: nothing but the director's own words get through, whatever comes over MQTT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.allegiance import Allegiance
from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home, write_durably
from edge_agent.updates.slots import Tell
from edge_contracts import cose
from edge_contracts.envelope import seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Assignment
from edge_contracts.model import canonical_json
from edge_contracts.profile import load_profile
from edge_contracts.topics import Channel, topic
from edge_contracts.trust import KeyStatement, sign_keys

DIRECTOR, OTHER, PUBLISHER, THIRD = (PrivateKey.generate() for _ in range(4))
WHERE = topic("plant", "cam-1", Channel.ASSIGNMENT)
GOOD = Assignment(device="cam-1", number=3)
ENVELOPE = seal(GOOD, WHERE, DIRECTOR)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Held:
    """An allegiance and what it said."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        home = Home(folder)
        home.make()
        config = DeviceConfig.model_validate(
            {
                "server": "http://127.0.0.1",
                "device": "cam-1",
                "fleet": "plant",
                "profile": load_profile("x86-cpu"),
                "lineage": ("x86-cpu",),
                "mqtt_host": "127.0.0.1",
                "mqtt_port": 1883,
                "mqtt_tls": False,
                "mqtt_ca": "",
                "mqtt_user": "device",
                "mqtt_password": "secret",
                "client_id": "edge-0123456789abcdef",
                "public_key": OTHER.public.base64,
                "director_key": DIRECTOR.public.base64,
                "publisher_keys": (PUBLISHER.public.base64,),
            }
        )
        write_durably(home.config, canonical_json(config))
        self.told: list[Tell] = []
        self.changes = 0
        self.allegiance = Allegiance(home, self.told.append, self.changed)

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Held:
    caplog.set_level(logging.CRITICAL)
    return Held(tmp_path)


def test_an_assignment_of_the_director_for_this_device_is_read(held: Held) -> None:
    assert held.allegiance.read(ENVELOPE) == GOOD


@pytest.mark.parametrize(
    "envelope",
    [
        seal(GOOD, WHERE, OTHER),
        seal(GOOD, topic("plant", "cam-2", Channel.ASSIGNMENT), DIRECTOR),
        seal(GOOD.model_copy(update={"device": "cam-2"}), WHERE, DIRECTOR),
        ENVELOPE[:-1] + bytes([ENVELOPE[-1] ^ 1]),
        ENVELOPE + b"\0",
        b"",
    ],
    ids=["another key", "another topic", "another device", "a bit", "a byte more", "nothing"],
)
def test_any_other_is_not(held: Held, envelope: bytes) -> None:
    assert held.allegiance.read(envelope) is None


@given(payload=st.binary(max_size=300))
@FUZZ
def test_no_fuzzed_payload_is_a_crash(held: Held, payload: bytes) -> None:
    assert held.allegiance.read(payload) is None
    held.allegiance.follow(payload)


@given(at=st.integers(0, len(ENVELOPE) - 1), bits=st.integers(1, 255))
@FUZZ
def test_no_envelope_with_a_byte_changed_is_read(held: Held, at: int, bits: int) -> None:
    changed = bytearray(ENVELOPE)
    changed[at] ^= bits
    assert held.allegiance.read(bytes(changed)) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(sorted(Assignment.model_fields)), value=ANYTHING, whole=ANYTHING)
@FUZZ
def test_what_the_director_signs_and_is_no_assignment_is_no_crash_either(
    held: Held, name: str, value: Any, whole: Any
) -> None:
    fields = GOOD.model_dump(mode="python") | {name: value}
    for content in (cbor2.dumps(fields), cbor2.dumps(whole), b"\xff" + cbor2.dumps(whole)):
        read = held.allegiance.read(cose.sign(content, WHERE, DIRECTOR))
        assert read is None or read.device == "cam-1"


def test_another_director_counts_from_the_statement_on(held: Held) -> None:
    statement = KeyStatement(fleet="plant", counter=1, director=OTHER.public.base64, reason="moved")
    held.allegiance.follow(sign_keys(statement, DIRECTOR))
    assert [tell.event for tell in held.told] == ["keys-changed", "director-changed"]
    assert held.changes == 1
    assert held.allegiance.read(seal(GOOD, WHERE, OTHER)) == GOOD


def _names(director: PrivateKey, by: PrivateKey, counter: int = 1) -> bytes:
    statement = KeyStatement(fleet="plant", counter=counter, director=director.public.base64)
    return sign_keys(statement, by)


def test_a_device_that_was_away_is_led_along_the_chain_of_directors(held: Held) -> None:
    chain = (_names(OTHER, DIRECTOR), _names(THIRD, OTHER, 2))
    read = held.allegiance.read(seal(GOOD.model_copy(update={"keys": chain}), WHERE, THIRD))
    assert read is not None and read.number == GOOD.number
    assert held.allegiance.obeyed == THIRD.public.key_id
    again = Allegiance(Home(held.home), held.told.append, held.changed)
    assert again.obeyed == THIRD.public.key_id, "obeyed before it was stored"


def test_what_comes_with_a_broken_chain_is_not_obeyed_and_said_once(held: Held) -> None:
    message = GOOD.model_copy(update={"keys": (_names(THIRD, OTHER, 2),)})
    for _ in range(2):
        assert held.allegiance.read(seal(message, WHERE, THIRD)) is None
    assert [(tell.event, tell.code) for tell in held.told] == [("director-unknown", "director-unknown")]
    assert THIRD.public.key_id in held.told[0].detail
    assert held.allegiance.read(ENVELOPE) == GOOD, "its own director is obeyed no longer"
    assert held.allegiance.read(seal(message, WHERE, THIRD)) is None
    assert len(held.told) == 2, "what begins anew is not said anew"


def test_what_a_director_says_in_the_message_that_replaces_it_is_not_obeyed(held: Held) -> None:
    """A thief could put the owner's statement and an order of its own into one message."""
    last = GOOD.model_copy(update={"number": 1 << 62, "keys": (_names(THIRD, PUBLISHER),)})
    assert held.allegiance.read(seal(last, WHERE, DIRECTOR)) is None
    assert held.allegiance.obeyed == THIRD.public.key_id
    assert held.allegiance.era == 1


def test_a_publisher_replaces_a_director_that_has_named_its_thief(held: Held) -> None:
    thief = PrivateKey.generate()
    held.allegiance.follow(_names(thief, DIRECTOR, 1 << 62))
    assert held.allegiance.obeyed == thief.public.key_id
    message = GOOD.model_copy(update={"keys": (_names(THIRD, PUBLISHER),)})
    assert held.allegiance.read(seal(message, WHERE, THIRD)) is not None
    for void in (_names(thief, DIRECTOR, (1 << 62) + 1), _names(thief, thief, (1 << 62) + 1)):
        held.allegiance.follow(void)
    assert held.allegiance.obeyed == THIRD.public.key_id
    held.allegiance.follow(_names(OTHER, THIRD, 0))
    assert held.allegiance.obeyed == OTHER.public.key_id, "the thief's counter holds up the one after"
