"""Envelopes of messages: their bytes, their chain, and the topic that each is bound to."""

from __future__ import annotations

import cbor2
import pytest
import samples
from message_examples import EPOCH, EXAMPLES, WINDOW

from edge_contracts.envelope import RecordEncoder, chain_value, encode_record, seal, seal_records, unseal
from edge_contracts.errors import SignatureInvalid
from edge_contracts.messages import Ack, Event, Record, Telemetry
from edge_contracts.topics import Channel, topic


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 1000])
def test_records_that_were_encoded_before_make_the_same_envelope(count: int) -> None:
    where = topic("f", "d1", Channel.TELEMETRY)
    records: list[Record] = [Event(name="e", time_ms=n) for n in range(count - 1)]
    records.append(WINDOW)
    message = Telemetry(epoch=EPOCH, seq=70_000, prev=bytes(range(16)), recs=tuple(records))
    encoded = [encode_record(record) for record in records]
    sealed_before = seal_records(EPOCH, 70_000, bytes(range(16)), encoded, where, samples.KEY)
    assert sealed_before == seal(message, where, samples.KEY)


def test_a_message_on_another_topic_is_refused() -> None:
    _, message = EXAMPLES["ack"]
    envelope = seal(message, topic("f", "d1", Channel.ACK), samples.KEY)
    with pytest.raises(SignatureInvalid):
        unseal(Ack, envelope, topic("f", "d2", Channel.ACK), samples.KEY.public)


def test_the_chain_value_is_the_start_of_a_sha256() -> None:
    # FIPS 180-2, appendix B.1: SHA-256("abc")
    assert chain_value(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223"


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
