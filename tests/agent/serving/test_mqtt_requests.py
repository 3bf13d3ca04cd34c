"""What a message asks and where its reply goes."""

from __future__ import annotations

import json

import pytest
from agent_serving import ASK, ROW
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from edge_agent.errors import CallRefused, QueueFull
from edge_agent.serving.mqtt_requests import MAX_PAYLOAD, Asked, Named, Topics, read_asked, write_refusal
from edge_contracts.inference_topics import ADDRESSES

TOPICS = Topics("home/device-1")
INFER = "home/device-1/v2/models/tiny/infer"


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        (INFER, Named("infer", "tiny")),
        ("home/device-1/v2/models/tiny/versions/1.0/infer", Named("infer", "tiny", "1.0")),
        ("home/device-1/v2/models/tiny/answer", Named("answer", "tiny")),
        ("home/device-1/v2/models/tiny/versions/1.0/answer", Named("answer", "tiny", "1.0")),
        ("home/device-1/v2/models/tiny/answer/image/jpeg", Named("answer", "tiny", None, "image/jpeg")),
        (
            "home/device-1/v2/models/tiny/versions/1.0/answer/text/csv",
            Named("answer", "tiny", "1.0", "text/csv"),
        ),
        ("home/device-1/v2/models/tiny/answer/reply", None),
        ("home/device-1/v2/models/tiny/answer/image/jpeg/reply", None),
        (INFER + "/reply", None),
        ("home/device-2/v2/models/tiny/infer", None),
        ("home/device-1/v2/models/tiny/other/1/infer", None),
        ("home/device-1/v2/models/infer", None),
    ],
)
def test_a_topic_names_model_and_version(topic: str, names: Named | None) -> None:
    assert TOPICS.names(topic) == names


@pytest.mark.parametrize("prefix", ["", "/", "a//b", "a/", "a/+/b", "#", "$SYS", "a b", "x" * 201])
def test_a_prefix_that_would_be_another_topic_is_refused(prefix: str) -> None:
    with pytest.raises(CallRefused, match="no topic prefix"):
        Topics(prefix)


def test_a_reply_goes_to_the_response_topic_or_beside_the_request() -> None:
    assert TOPICS.reply_to(Asked(INFER, b"", response_topic="app/7/answers")) == "app/7/answers"
    assert TOPICS.reply_to(Asked(INFER, b"")) == INFER + "/reply"


@pytest.mark.parametrize("topic", ["a/#", "+", "$SYS/x", "a\0", "x" * 513])
def test_what_is_no_topic_for_a_reply_is_refused(topic: str) -> None:
    with pytest.raises(CallRefused, match="no topic for a reply"):
        TOPICS.reply_to(Asked(INFER, b"", response_topic=topic))


@pytest.mark.parametrize("address", ADDRESSES.values())
def test_every_topic_that_is_described_is_listened_on_and_its_reply_is_not(address: str) -> None:
    topic = address.format(prefix="p", model="m", version="1", type="image", subtype="png")
    topics = Topics("p")
    assert topics.names(topic) is not None
    listened = [name for name in topics.subscriptions if topic_matches_sub(name, topic)]
    assert len(listened) == 1
    assert not any(
        topic_matches_sub(name, topics.reply_to(Asked(topic, b""))) for name in topics.subscriptions
    )


def test_a_reply_is_never_a_request_again() -> None:
    with pytest.raises(CallRefused, match="one for requests"):
        TOPICS.reply_to(Asked(INFER, b"", response_topic=INFER))


BINARY = json.dumps(
    {"inputs": [{"name": "x", "shape": [4], "datatype": "UINT8", "parameters": {"binary_data_size": 4}}]}
).encode()


def test_binary_data_is_found_behind_the_json_with_and_without_its_length() -> None:
    for behind in (b"\x00}]{", b"1234", b"    "):
        told = {"inference-header-content-length": str(len(BINARY))}
        assert read_asked(Asked("", BINARY + behind, properties=told)).inputs["x"].tobytes() == behind
    for behind in (b"\x00}]{", b"1234", b"\xff\xfe\x00\x01"):
        assert read_asked(Asked("", BINARY + behind)).inputs["x"].tobytes() == behind
    umlaut = json.dumps({**ASK, "id": "grün"}, ensure_ascii=False).encode()
    call = read_asked(Asked("", umlaut + b"\n"))
    assert (call.id, call.inputs["x"].tolist()) == ("grün", [ROW])


def test_a_message_that_is_too_large_or_tells_a_wrong_length_is_refused() -> None:
    with pytest.raises(CallRefused, match="more than"):
        read_asked(Asked("", bytes(MAX_PAYLOAD + 1)))
    for length in ("x", "-1", "9" * 40, "\xb2"):
        with pytest.raises(CallRefused, match="must be a number"):
            read_asked(Asked("", BINARY, properties={"inference-header-content-length": length}))


def test_a_refusal_is_one_line_with_the_id_and_https_number() -> None:
    content, status = write_refusal(QueueFull("64 requests wait"), "r7")
    assert json.loads(content) == {"error": "64 requests wait", "code": "queue-full", "id": "r7"}
    assert status == 503
    assert json.loads(write_refusal(QueueFull("full"))[0]) == {"error": "full", "code": "queue-full"}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode), st.none() | st.text(max_size=6))
def test_no_payload_does_more_than_be_refused(payload: bytes, length: str | None) -> None:
    properties = {} if length is None else {"inference-header-content-length": length}
    with pytest.raises(CallRefused):
        read_asked(Asked("t", payload, properties=properties))
