"""Packets by hand, from the tables of MQTT 3.1.1."""

from __future__ import annotations

import pytest

from edge_contracts.errors import FormatInvalid
from edge_fleet.simulation import mqtt


def test_a_connect_is_that_of_the_standard() -> None:
    # section 3.1.2: protocol name, level 4, flags for user, password and a clean session, keep-alive
    assert mqtt.connect("c", "u", "p", 258) == bytes.fromhex(
        "10 13 0004 4d515454 04 c2 0102 0001 63 0001 75 0001 70"
    )


def test_a_subscribe_and_a_publish_are_those_of_the_standard() -> None:
    assert mqtt.subscribe(10, ["a/b"]) == bytes.fromhex("82 08 000a 0003 612f62 00")
    assert mqtt.publish("a/b", b"xy", 10) == bytes.fromhex("32 09 0003 612f62 000a 7879")
    assert mqtt.acknowledge(10) == bytes.fromhex("40 02 000a")


def test_a_length_of_more_than_127_has_two_bytes() -> None:
    packet = mqtt.publish("t", bytes(321 - 5), 1)
    assert packet[:3] == bytes([0x32, 0xC1, 0x02])  # 321 = 65 + 2 * 128: section 2.2.3's own example


def test_packets_are_put_together_however_they_are_cut() -> None:
    sent = mqtt.publish("a", b"1" * 200, 7) + mqtt.PING + bytes.fromhex("30 04 0001 62 32")
    reader = mqtt.Reader()
    found = [packet for byte in sent for packet in reader.feed(bytes([byte]))]
    assert found == [*mqtt.Reader().feed(sent)]
    assert [packet.kind for packet in found] == [mqtt.Kind.PUBLISH, mqtt.Kind.PINGREQ, mqtt.Kind.PUBLISH]
    assert mqtt.published(found[0]) == mqtt.Published("a", b"1" * 200, 7)
    assert mqtt.published(found[2]) == mqtt.Published("b", b"2", 0)


@pytest.mark.parametrize(
    ("answer", "code"), [("20020000", 0), ("20020105", 5), ("200100", 255)], ids=["in", "out", "short"]
)
def test_a_connack_says_whether_the_broker_lets_us_in(answer: str, code: int) -> None:
    (packet,) = mqtt.Reader().feed(bytes.fromhex(answer))
    assert mqtt.refusal(packet) == code


@pytest.mark.parametrize("content", ["30ffffffff01", "30ffffff7f"], ids=["overlong", "huge"])
def test_what_is_no_packet_is_refused(content: str) -> None:
    with pytest.raises(FormatInvalid):
        list(mqtt.Reader().feed(bytes.fromhex(content)))


def test_a_publish_that_ends_too_early_is_refused() -> None:
    (packet,) = mqtt.Reader().feed(bytes.fromhex("32 03 0009 61"))
    with pytest.raises(FormatInvalid, match="ends before"):
        mqtt.published(packet)
