"""The protocol's bytes: what a client may write is understood, and anything else is refused in one line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from agent_bundles import build
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import CallRefused
from edge_agent.inference.request import Reply
from edge_agent.serving.protocol import read_call, read_json, write_error, write_reply
from edge_contracts.bundle import open_bundle

X = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
SCORES = np.array([[0.25, 0.5, 0.125]], np.float32)
MANIFEST = open_bundle(build()).manifest
REPLY = Reply(
    {"scores": SCORES}, 0.5, "tiny", "1", "sha256:" + "1" * 64, "int8", MANIFEST, {"out-of-range": 1}
)


def body(document: Any, behind: bytes = b"") -> tuple[memoryview, int | None]:
    head = json.dumps(document).encode()
    return memoryview(head + behind), len(head) if behind else None


def with_input(**changed: Any) -> dict[str, Any]:
    return {"inputs": [X | {"data": [1, 2, 3, 4]} | changed]}


def test_flat_and_nested_numbers_are_the_same_tensor() -> None:
    flat = read_call(*body(with_input(data=[1, 2.5, 3, 4])))
    nested = read_call(*body(with_input(data=[[1, 2.5, 3, 4]])))
    for call in (flat, nested):
        assert call.inputs["x"].dtype == np.float32
        assert call.inputs["x"].tolist() == [[1, 2.5, 3, 4]]


def test_binary_inputs_are_views_of_the_body_in_their_order() -> None:
    first, second = np.arange(4, dtype="<f4"), np.array([[7], [-7]], "<i2")
    document = {
        "id": "a",
        "inputs": [
            X | {"parameters": {"binary_data_size": 16}},
            {"name": "plain", "shape": [2], "datatype": "BOOL", "data": [True, False]},
            {"name": "y", "shape": [2, 1], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
        ],
    }
    content, json_bytes = body(document, first.tobytes() + second.tobytes())
    call = read_call(content, json_bytes)
    assert call.inputs["x"].tolist() == [[0, 1, 2, 3]]
    assert np.shares_memory(call.inputs["x"], np.frombuffer(content, np.uint8))
    assert call.inputs["plain"].tolist() == [True, False]
    assert call.inputs["y"].tolist() == [[7], [-7]]
    assert call.id == "a"


def test_a_reply_names_the_model_and_gives_numbers_or_bytes_as_asked() -> None:
    plain = write_reply(read_call(*body({**with_input(), "id": "i7"})), REPLY)
    document = json.loads(plain.content)
    assert plain.json_bytes is None
    assert (document["model_name"], document["model_version"], document["id"]) == ("tiny", "1", "i7")
    assert document["outputs"] == [
        {"name": "scores", "shape": [1, 3], "datatype": "FP32", "data": [0.25, 0.5, 0.125]}
    ]
    assert document["parameters"]["flagged"] == "out-of-range:1"
    asked = {**with_input(), "parameters": {"binary_data_output": True}}
    binary = write_reply(read_call(*body(asked)), REPLY)
    assert binary.json_bytes is not None
    assert binary.content[binary.json_bytes :] == SCORES.tobytes()
    (output,) = json.loads(binary.content[: binary.json_bytes])["outputs"]
    assert output["parameters"] == {"binary_data_size": 12}
    assert "data" not in output
    asked["outputs"] = [{"name": "scores", "parameters": {"binary_data": False}}]
    assert write_reply(read_call(*body(asked)), REPLY).json_bytes is None


def test_an_answer_that_json_cannot_hold_is_null() -> None:
    reply = Reply({"s": np.array([[np.nan, np.inf, 1.0]], np.float32)}, 0.5, "m", "1", "b", "a", MANIFEST, {})
    (output,) = json.loads(write_reply(read_call(*body(with_input())), reply).content)["outputs"]
    assert output["data"] == [None, None, 1.0]


def test_tritons_timeout_is_microseconds_and_zero_is_none() -> None:
    def timeout_s(value: int) -> float | None:
        return read_call(*body({**with_input(), "parameters": {"timeout": value}})).timeout_s

    assert timeout_s(2_500_000) == 2.5
    assert timeout_s(0) is None


REFUSED: list[tuple[Any, str]] = [
    ([], "the request must be an object"),
    ({}, "inputs must be a list of at least one tensor, found nothing"),
    ({"inputs": []}, "inputs must be a list"),
    ({"inputs": {"x": 1}}, "inputs must be a list"),
    ({"inputs": [7]}, "each of inputs must be an object"),
    ({"inputs": [{"shape": [1]}]}, "the name of an input must be text"),
    (with_input(name=""), "the name of an input"),
    (with_input(shape=None), "shape must be a list of sizes"),
    (with_input(shape=[]), "shape must be a list of sizes"),
    (with_input(shape=[1, -4]), "shape must be a list of sizes"),
    (with_input(shape=[1.0, 4]), "shape must be a list of sizes"),
    (with_input(shape=[True, 4]), "shape must be a list of sizes"),
    (with_input(shape=[1 << 70]), "shape must be a list of sizes"),
    (with_input(shape=[1] * 33), "shape must be a list of sizes"),
    (with_input(shape=[1 << 60, 1 << 60]), "data holds 4 numbers, shape .* needs"),
    (with_input(shape=[1, 5]), "data holds 4 numbers, shape .1, 5. needs 5"),
    (with_input(datatype="BYTES"), "datatype 'BYTES' is not one of BOOL"),
    (with_input(datatype=["FP32"]), "datatype .* is not one of"),
    (with_input(data="abcd"), "data must be a list, found str"),
    (with_input(data=[[1, 2], [3]]), "rows of different length"),
    (with_input(data=["1", "2", "3", "4"]), "data holds text, expected FP32"),
    (with_input(data=[1, None, 3, 4]), "data holds something that is no number"),
    (with_input(data=[10**400, 2, 3, 4]), "data holds something that is no number, or too large"),
    (with_input(data=[{}, 2, 3, 4]), "data holds something that is no number"),
    (with_input(data=[True] * 4), "data holds booleans, expected FP32"),
    (with_input(datatype="INT8", data=[1, 2, 3, 128]), "data reaches from 1 to 128, INT8 from -128 to 127"),
    (with_input(datatype="UINT8", data=[1, 2, 3, -1]), "from -1 to 3, UINT8"),
    (with_input(datatype="INT32", data=[1.5, 2, 3, 4]), "data holds fractions, expected INT32"),
    (with_input(datatype="BOOL", data=[1, 0, 1, 0]), "data holds integers, expected BOOL"),
    ({"inputs": [X]}, "neither data nor the parameter binary_data_size"),
    (with_input(parameters={"binary_data_size": 16}), "both data and the parameter"),
    (with_input(parameters=[]), "parameters of input 'x' must be an object"),
    ({"inputs": [X | {"data": [1] * 4}] * 2}, "input 'x' is there twice"),
    ({"inputs": [X | {"parameters": {"binary_data_size": 16}}]}, "0 bytes are left behind the JSON"),
    ({**with_input(), "id": 7}, "id must be text"),
    ({**with_input(), "id": "x" * 1025}, "id must be text of at most 1024"),
    ({**with_input(), "parameters": 3}, "parameters must be an object"),
    ({**with_input(), "parameters": {"binary_data_output": 1}}, "binary_data_output must be true or false"),
    ({**with_input(), "parameters": {"timeout": "soon"}}, "timeout must be whole microseconds"),
    ({**with_input(), "parameters": {"timeout": -1}}, "timeout must be whole microseconds"),
    ({**with_input(), "outputs": [{}]}, "the name of an output must be text"),
    ({**with_input(), "outputs": [{"name": "a", "parameters": {"classification": 3}}]}, "take the scores"),
]


@pytest.mark.parametrize(("document", "expected"), REFUSED)
def test_what_is_not_a_request_is_refused_in_one_line(document: Any, expected: str) -> None:
    with pytest.raises(CallRefused, match=expected) as caught:
        read_call(*body(document))
    assert (caught.value.status, caught.value.code) == (400, "bad-request")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


BINARY = {"inputs": [X | {"parameters": {"binary_data_size": 16}}]}


@pytest.mark.parametrize(
    ("document", "behind", "expected"),
    [
        (BINARY, bytes(15), "binary_data_size is 16, 15 bytes are left"),
        (BINARY, bytes(17), "1 bytes behind the binary data"),
        ({"inputs": [X | {"parameters": {"binary_data_size": 12}}]}, bytes(12), "12 bytes .* needs 16"),
        ({"inputs": [X | {"parameters": {"binary_data_size": -1}}]}, bytes(16), "binary_data_size is -1"),
        ({"inputs": [X | {"parameters": {"binary_data_size": True}}]}, bytes(1), "binary_data_size is True"),
        (
            {"inputs": [X | {"shape": [1 << 61, 8], "parameters": {"binary_data_size": 16}}]},
            bytes(16),
            "16 bytes of binary data, .* needs 73786976294838206464",
        ),
        (
            {"inputs": [X | {"shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}]},
            b"\x01\x02",
            "a BOOL is a byte 0 or 1",
        ),
    ],
)
def test_binary_data_of_another_size_is_refused(document: Any, behind: bytes, expected: str) -> None:
    with pytest.raises(CallRefused, match=expected):
        read_call(*body(document, behind))


@pytest.mark.parametrize("json_bytes", [0, 1, 5, 10_000])
def test_a_json_length_that_is_not_the_jsons_is_refused(json_bytes: int) -> None:
    with pytest.raises(CallRefused):
        read_call(body(with_input())[0], json_bytes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b"[Infinity]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"1" * 5000,
        '{"a": 1}'.encode("utf-16"),
        b'["\\ud800"]',
    ],
)
def test_what_is_not_json_is_refused(content: bytes) -> None:
    with pytest.raises(CallRefused, match="the request is not JSON"):
        read_json(content)


def test_an_output_that_the_model_does_not_have_is_named_with_those_it_has() -> None:
    call = read_call(*body({**with_input(), "outputs": [{"name": "nothing"}]}))
    with pytest.raises(CallRefused, match="no output 'nothing', the model has 'scores'"):
        write_reply(call, REPLY)


def test_an_error_is_one_line_whatever_is_in_it() -> None:
    assert json.loads(write_error("c", 'a\n"b"\t\ud800')) == {"error": 'a "b" \ud800', "code": "c"}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "name", "shape", "datatype", "data", "parameters", "binary_data_size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON_VALUES, st.binary(max_size=32), st.none() | st.integers(-2, 200))
def test_no_document_does_more_than_be_refused(document: Any, behind: bytes, cut: int | None) -> None:
    head = json.dumps(document).encode()
    try:
        read_call(memoryview(head + behind), cut if cut is not None else len(head))
    except CallRefused as error:
        assert error.status == 400
