"""Messages: what is sealed unseals, old ones still parse, strangers' do not."""

from __future__ import annotations

from pathlib import Path

import cbor2
import pytest
import samples
from message_examples import EPOCH, EXAMPLES

from edge_contracts import cose
from edge_contracts.envelope import seal, unseal
from edge_contracts.errors import FormatInvalid, FormatTooNew
from edge_contracts.messages import CHAIN_START, Ack, Assignment
from edge_contracts.topics import topic

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_sealed_unseals(name: str) -> None:
    channel, message = EXAMPLES[name]
    where = topic("f", "d1", channel)
    assert unseal(type(message), seal(message, where, samples.KEY), where, samples.KEY.public) == message


@pytest.mark.parametrize("name", EXAMPLES)
def test_messages_of_older_releases_still_parse(name: str) -> None:
    # Written once by `python tests/golden/write_v1.py`; files there are added to, never edited.
    channel, message = EXAMPLES[name]
    envelope = (GOLDEN / f"{name}.cose").read_bytes()
    assert unseal(type(message), envelope, topic("f", "d1", channel), samples.KEY.public) == message


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_same_message_is_the_same_bytes(name: str) -> None:
    channel, message = EXAMPLES[name]
    # a release that writes other bytes for the same message breaks nobody, but must be noticed here
    assert seal(message, topic("f", "d1", channel), samples.KEY) == (GOLDEN / f"{name}.cose").read_bytes()


def test_a_message_of_another_kind_is_refused() -> None:
    channel, message = EXAMPLES["ack"]
    where = topic("f", "d1", channel)
    with pytest.raises(FormatInvalid):
        unseal(Assignment, seal(message, where, samples.KEY), where, samples.KEY.public)


def sealed(raw: object) -> bytes:
    return cose.sign(cbor2.dumps(raw), "t", samples.KEY)


@pytest.mark.parametrize(
    ("raw", "error", "text"),
    [
        ([1], FormatInvalid, "not a CBOR map"),
        ({}, FormatInvalid, "no version"),
        ({"v": 2}, FormatTooNew, "version 2"),
        ({"v": 1, "device": "d", "epoch": EPOCH, "high": -2, "chain": CHAIN_START}, FormatInvalid, "high"),
        (
            {"v": 1, "device": "../d", "epoch": EPOCH, "high": 0, "chain": CHAIN_START},
            FormatInvalid,
            "device",
        ),
        ({"v": 1, "device": "d", "epoch": EPOCH, "high": 0, "chain": b"short"}, FormatInvalid, "chain"),
        (
            {"v": 1, "device": "d", "epoch": EPOCH, "high": 0, "chain": CHAIN_START, "hihg": 1},
            FormatInvalid,
            "did you mean 'high'",
        ),
    ],
)
def test_a_message_with_a_fault_is_refused_on_one_line(raw: object, error: type, text: str) -> None:
    with pytest.raises(error, match=text) as refusal:
        unseal(Ack, sealed(raw), "t", samples.KEY.public)
    assert "\n" not in str(refusal.value)
