"""Topics: every one that is built parses back, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contracts.errors import TopicInvalid
from edge_contracts.topics import Address, Channel, parse, subscription, topic

IDS = st.text("ABCXYZabcxyz0189_-", min_size=1, max_size=64)


@given(IDS, IDS, st.sampled_from(Channel))
def test_a_built_topic_parses_back(fleet: str, device: str, channel: Channel) -> None:
    assert parse(topic(fleet, device, channel)) == Address(fleet, device, channel)


@given(st.text(max_size=60))
def test_nothing_but_identifiers_gets_into_a_topic(text: str) -> None:
    if text and len(text) <= 64 and all(c.isascii() and (c.isalnum() or c in "_-") for c in text):
        return
    with pytest.raises(TopicInvalid):
        topic("f", text, Channel.HELLO)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "edge/v1/f/d",
        "edge/v2/f/d/hello",
        "edge/v1/f/d/hello/x",
        "edge/v1/f/d/command",
        "edge/v1/+/d/hello",
        "edge/v1/f/#/hello",
        "edge/v1//d/hello",
        "edge/v1/f/d\n/hello",
        "/edge/v1/f/d/hello",
    ],
)
def test_other_topics_are_refused(text: str) -> None:
    with pytest.raises(TopicInvalid):
        parse(text)


def test_a_subscription_names_one_channel_of_every_device() -> None:
    assert subscription("f", Channel.TELEMETRY) == "edge/v1/f/+/telemetry"
