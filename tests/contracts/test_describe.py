"""The descriptions of the messages for other languages: current, and true of every message written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import jsonschema
import pycddl
import pytest
from message_examples import EXAMPLES

from edge_contracts import cose, describe
from edge_contracts.topics import Channel, topic
from edge_contracts.verified import RecordKind, verified_topic

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "v1").glob("*.cose"))
CDDL = (describe.FOLDER / "messages.cddl").read_text()
Change = Callable[[dict[str, Any]], Any]


def rule(name: str) -> pycddl.Schema:
    """The same rules, with one of them as the root."""
    # pycddl 0.6.4 applies a .cbor control to every member of an array: each layer is checked by itself
    flat = CDDL.replace("bstr .cbor protected-header", "bstr").replace("bstr .cbor payload", "bstr")
    return pycddl.Schema(f"root = {name}\n{flat}")


def validate(envelope: bytes, kind: str) -> None:
    """An envelope, its protected header and its payload."""
    rule("envelope").validate_cbor(envelope)
    protected, _, payload, _ = cbor2.loads(envelope).value
    rule("protected-header").validate_cbor(protected)
    rule("payload").validate_cbor(payload)
    rule(kind).validate_cbor(payload)


RULES = {
    "telemetry": "telemetry",
    "downsampled": "telemetry",
    "telemetry-lineup": "telemetry",
    "hello": "device-state",
    "ack": "ack",
    "assignment": "assignment",
    "hello-shadow": "device-state",
    "assignment-shadow": "assignment",
    "status-next-key": "device-state",
    "assignment-keys": "assignment",
    "hello-obeys": "device-state",
}


def kind_of(name: str) -> str:
    """The JSON Schema's name of an example."""
    return type(EXAMPLES[name][1]).__name__


def json_validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = describe.json_schema()
    return jsonschema.Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{kind}"})


def test_a_description_that_is_not_current_is_noticed(tmp_path: Path) -> None:
    assert describe.outdated(tmp_path) == [
        "messages.cddl",
        "messages.schema.json",
        "asyncapi.json",
        "inference.asyncapi.json",
    ]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_envelope_that_was_ever_written_fits_the_cddl(path: Path) -> None:
    validate(path.read_bytes(), RULES[path.stem])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_message_that_was_ever_written_fits_the_json_schema(path: Path) -> None:
    payload = cbor2.loads(cose.parse(path.read_bytes()).payload)
    json_validator(kind_of(path.stem)).validate(describe.as_json(payload))


WRONG: dict[str, tuple[str, Change]] = {
    "a number below zero": ("telemetry", lambda m: m.update(seq=-1)),
    "a chain value that is too short": ("telemetry", lambda m: m.update(prev=b"x")),
    "no records": ("telemetry", lambda m: m.update(recs=[])),
    "no version": ("telemetry", lambda m: m.pop("v")),
    "a record of no kind": ("telemetry", lambda m: m["recs"][0].pop("kind")),
    "a record of an unknown kind": ("telemetry", lambda m: m["recs"][0].update(kind="sample")),
    "a window without its bundle": ("telemetry", lambda m: m["recs"][0].pop("bundle")),
    "a sketch with words for bins": (
        "telemetry",
        lambda m: m["recs"][0].update(latency_ms={"bins": {"a": 1}}),
    ),
    "a window that adds up none": ("downsampled", lambda m: m["recs"][1].update(merged=0)),
    "a key that nobody knows": ("ack", lambda m: m.update(hihg=1)),
    "a phase that is not one": ("hello", lambda m: m["progress"].update(phase="asleep")),
    "text for a number": ("assignment", lambda m: m.update(number="4")),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_cddl_refuses(what: str) -> None:
    name, change = WRONG[what]
    message = copy.deepcopy(cbor2.loads(cose.parse((GOLDEN[0].parent / f"{name}.cose").read_bytes()).payload))
    rules = rule(RULES[name])
    rules.validate_cbor(cbor2.dumps(message))
    change(message)
    with pytest.raises(pycddl.ValidationError):
        rules.validate_cbor(cbor2.dumps(message))


@pytest.mark.parametrize(
    "what", [name for name in WRONG if "words for bins" not in name]
)  # JSON has no other keys
def test_the_json_schema_refuses(what: str) -> None:
    name, change = WRONG[what]
    message = cbor2.loads(cose.parse((GOLDEN[0].parent / f"{name}.cose").read_bytes()).payload)
    change(message)
    with pytest.raises(jsonschema.ValidationError):
        json_validator(kind_of(name)).validate(describe.as_json(message))


def test_an_envelope_with_another_algorithm_or_a_short_signature_does_not_fit_the_cddl() -> None:
    tag = cbor2.loads((GOLDEN[0].parent / "ack.cose").read_bytes())
    protected, unprotected, payload, signature = tag.value
    for parts in (
        [cbor2.dumps({**cbor2.loads(protected), 1: -7}), unprotected, payload, signature],
        [protected, unprotected, payload, signature[:-1]],
    ):
        with pytest.raises(pycddl.ValidationError):
            validate(cbor2.dumps(cbor2.CBORTag(18, parts)), "ack")


def test_the_asyncapi_document_names_every_topic_and_nothing_that_is_not_there() -> None:
    document = describe.asyncapi()
    addresses = {
        channel["address"].format(fleet="f", device="d") for channel in document["channels"].values()
    }
    assert addresses == {
        *(topic("f", "d", channel) for channel in Channel),
        *(verified_topic("f", "d", kind) for kind in RecordKind),
    }
    defined = describe.json_schema()["$defs"]
    for message in document["components"]["messages"].values():
        file, _, place = message["payload"]["$ref"].partition("#/$defs/")
        assert (describe.FOLDER / file).exists()
        assert place in defined
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]
