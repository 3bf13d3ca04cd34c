"""The subscriber in another language: node reads what we have written, and believes nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import samples
from message_examples import EPOCH, WINDOW

from edge_contracts import describe
from edge_contracts.cose import sign
from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, Telemetry
from edge_contracts.topics import Channel, topic

SUBSCRIBER = Path(__file__).parents[2] / "examples" / "subscriber.mjs"
NODE = shutil.which("node")
WHERE = topic("f", "d1", Channel.TELEMETRY)

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def history(count: int, key: PrivateKey = samples.KEY) -> list[bytes]:
    envelopes: list[bytes] = []
    prev = CHAIN_START
    for seq in range(count):
        message = Telemetry(
            epoch=EPOCH, seq=seq, prev=prev, recs=(WINDOW.model_copy(update={"inferences": 300 + seq}),)
        )
        envelopes.append(seal(message, WHERE, key))
        prev = chain_value(envelopes[-1])
    return envelopes


def heard(tmp_path: Path, *lines: tuple[str, bytes]) -> list[dict[str, Any]]:
    devices = tmp_path / "devices.json"
    devices.write_text(json.dumps([{"id": "d1", "public_key": samples.KEY.public.base64}]))
    told = subprocess.run(
        [str(NODE), str(SUBSCRIBER), str(devices)],
        input="".join(f"{where} {envelope.hex()}\n" for where, envelope in lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_it_reads_every_field_of_a_true_history(tmp_path: Path) -> None:
    told = heard(tmp_path, *((WHERE, envelope) for envelope in history(3)))
    assert [one.pop("chain") for one in told] == ["ok"] * 3
    window = describe.as_json(WINDOW.model_dump(mode="python"))
    assert [one["recs"] for one in told] == [[window | {"inferences": 300 + n}] for n in range(3)]
    assert [one["seq"] for one in told] == [0, 1, 2]


def test_it_tells_a_hole_a_duplicate_a_fork_and_a_changed_history(tmp_path: Path) -> None:
    first, second, third, fourth = history(4)
    other = seal(Telemetry(epoch=EPOCH, seq=1, prev=chain_value(first), recs=(WINDOW,)), WHERE, samples.KEY)
    stray = seal(Telemetry(epoch=EPOCH, seq=2, prev=bytes(range(16)), recs=(WINDOW,)), WHERE, samples.KEY)
    told = heard(tmp_path, *((WHERE, one) for one in (first, second, second, other, stray, fourth, third)))
    assert [one["chain"].split(":")[0] for one in told] == [
        "ok", "ok", "duplicate", "REFUSED", "REFUSED", "after a hole", "ok",
    ]  # fmt: skip


def test_it_refuses_what_the_device_has_not_signed_for_the_topic(tmp_path: Path) -> None:
    (envelope,) = history(1)
    flipped = bytearray(envelope)
    flipped[len(envelope) // 2] ^= 1
    told = heard(
        tmp_path,
        (WHERE, bytes(flipped)),
        (topic("other", "d1", Channel.TELEMETRY), envelope),
        (topic("f", "d2", Channel.TELEMETRY), envelope),
        (WHERE, history(1, PrivateKey.generate())[0]),
        (WHERE, b"\x00"),
        (WHERE, b""),
        (WHERE, envelope[:-1]),
        (WHERE, envelope),
    )
    assert [one["chain"].startswith("REFUSED") for one in told] == [True] * 7 + [False]


ENDLESS = {
    "a map of 2^64": b"\xbb" + b"\xff" * 8,
    "a list of 2^64": b"\x9b" + b"\xff" * 8,
    "bytes of 2^64": b"\x5b" + b"\xff" * 8,
    "lists in lists": b"\x81" * 100_000,
}


@pytest.mark.parametrize("content", ENDLESS.values(), ids=ENDLESS)
def test_what_says_that_it_is_endless_ends_at_once_and_the_next_is_heard(
    content: bytes, tmp_path: Path
) -> None:
    (envelope,) = history(1)
    told = heard(tmp_path, (WHERE, b"\xd2" + content), (WHERE, envelope))
    assert [one["chain"] for one in told][1] == "ok"
    assert told[0]["chain"] in ("REFUSED: cut short", "REFUSED: too deep")


NUMBER = b"\xc2\x5a" + (100_000).to_bytes(4, "big") + b"\xfd" * 100_000
TAGGED = {
    "a decimal fraction of 240,000 digits": b"\xc4\x82\x01" + NUMBER,
    "a decimal fraction out of all bounds": bytes.fromhex("c4821b7fffffffffffffff01"),
    "tags on tags": b"\xd2" * 100_000,
    "a tag of nothing": b"\xd2",
}


@pytest.mark.parametrize("content", TAGGED.values(), ids=TAGGED)
def test_what_is_tagged_is_refused_whoever_has_signed_it_and_the_next_is_heard(
    content: bytes, tmp_path: Path
) -> None:
    (envelope,) = history(1)
    messages = (
        b"\xd2" + content,
        sign(content, WHERE, samples.KEY),
        sign(b"\xa1\x61v" + content, WHERE, samples.KEY),
    )
    told = heard(tmp_path, (WHERE, content), *((WHERE, one) for one in messages), (WHERE, envelope))
    assert told[0]["chain"].startswith("REFUSED: ")
    assert [one["chain"] for one in told[1:]] == ["REFUSED: a tag inside, which no message has"] * 3 + ["ok"]


def test_a_device_that_came_later_is_known_when_the_file_is_written_again(tmp_path: Path) -> None:
    (envelope,) = history(1)
    devices = tmp_path / "devices.json"
    devices.write_text("[]")
    with subprocess.Popen(
        [str(NODE), str(SUBSCRIBER), str(devices)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdin is not None and node.stdout is not None

        def told() -> str:
            assert node.stdin is not None and node.stdout is not None
            node.stdin.write(f"{WHERE} {envelope.hex()}\n")
            node.stdin.flush()
            return str(json.loads(node.stdout.readline())["chain"])

        assert told() == "REFUSED: nobody knows this device"
        devices.write_text(json.dumps([{"id": "d1", "public_key": samples.KEY.public.base64}]))
        os.utime(devices, (1, 1))  # another time, however coarse the disk's clock
        assert told() == "ok"
        node.stdin.close()


def test_without_a_file_it_says_how_it_is_used() -> None:
    told = subprocess.run([str(NODE), str(SUBSCRIBER)], capture_output=True, text=True, timeout=60)
    assert told.returncode == 2 and told.stderr.startswith("usage: ") and told.stderr.count("\n") == 1
