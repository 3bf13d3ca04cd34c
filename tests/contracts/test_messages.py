"""Messages: what is sealed unseals, old ones still parse, strangers' do not."""

from __future__ import annotations

from pathlib import Path

import cbor2
import pytest
import samples
from message_examples import EPOCH, EXAMPLES, WINDOW

from edge_contracts import cose, messages
from edge_contracts.errors import FormatInvalid, FormatTooNew, SignatureInvalid
from edge_contracts.messages import (
    CHAIN_START,
    Ack,
    Assignment,
    Event,
    Record,
    RecordEncoder,
    Telemetry,
    chain_value,
    encode_record,
    seal,
    seal_records,
    unseal,
)
from edge_contracts.topics import Channel, topic

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


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 1000])
def test_records_that_were_encoded_before_make_the_same_envelope(count: int) -> None:
    where = topic("f", "d1", Channel.TELEMETRY)
    records: list[Record] = [Event(name="e", time_ms=n) for n in range(count - 1)]
    records.append(WINDOW)
    message = Telemetry(epoch=EPOCH, seq=70_000, prev=bytes(range(16)), recs=tuple(records))
    encoded = [encode_record(record) for record in records]
    sealed_before = seal_records(EPOCH, 70_000, bytes(range(16)), encoded, where, samples.KEY)
    assert sealed_before == seal(message, where, samples.KEY)


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


def test_a_message_on_another_topic_is_refused() -> None:
    _, message = EXAMPLES["ack"]
    envelope = seal(message, topic("f", "d1", Channel.ACK), samples.KEY)
    with pytest.raises(SignatureInvalid):
        unseal(Ack, envelope, topic("f", "d2", Channel.ACK), samples.KEY.public)


def test_the_chain_value_is_the_start_of_a_sha256() -> None:
    # FIPS 180-2, appendix B.1: SHA-256("abc")
    assert chain_value(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223"


def test_the_proof_of_enrolment_binds_token_and_name() -> None:
    proofs = {messages.enrol_proof(t, n) for t in ("one", "two") for n in (None, "a", "b")}
    assert len(proofs) == 6


def test_an_encoder_that_is_used_again_writes_what_a_new_one_writes() -> None:
    small, large = Event(name="started", time_ms=1), Event(name="refused", time_ms=2, detail="x" * 400)
    encode = RecordEncoder()
    for record in (large, small, large, small):
        assert encode(record) == cbor2.dumps(record.model_dump(mode="python"))


def test_an_encoder_goes_on_after_a_record_that_it_cannot_write() -> None:
    encode = RecordEncoder()
    good = Event(name="started", time_ms=1)
    bad = good.model_copy(update={"time_ms": object(), "detail": "y" * 100})
    with pytest.raises(TypeError):
        encode(bad)
    assert encode(good) == encode_record(good)
