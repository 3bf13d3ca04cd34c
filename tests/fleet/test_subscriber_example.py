"""The README's subscriber, run as it stands against a real server: it prints what verifies, and only that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from fleet_device import FleetDevice, enrol, eventually, window
from fleet_server import Running

from edge_contracts.cose import sign
from edge_contracts.keys import PrivateKey
from edge_contracts.topics import Channel

EXAMPLE = Path(__file__).parents[2] / "examples" / "subscriber.py"


@pytest.fixture
def device(fleet: Running) -> Iterator[FleetDevice]:
    found = enrol(fleet.http, fleet.token())
    found.connect()
    yield found
    found.close()


@pytest.fixture
def output(fleet: Running, device: FleetDevice, tmp_path: Path) -> Iterator[Path]:
    """What the example prints, with what it says when it dies."""
    made = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"}).json()
    keys = tmp_path / "devices.json"
    keys.write_text(json.dumps(fleet.admin.get("/api/v1/devices").json()))
    words = [made["host"], str(made["port"]), made["user"], made["password"], "f", str(keys)]
    with (tmp_path / "output").open("wb") as told:
        process = subprocess.Popen([sys.executable, str(EXAMPLE), *words], stdout=told, stderr=told)
        try:
            yield tmp_path / "output"
        finally:
            process.terminate()
            process.wait(10)


def say_until_heard(device: FleetDevice, output: Path) -> None:
    """Send until the subscriber, which takes a moment to connect, has printed an envelope."""

    def heard() -> bool:
        device.send(Channel.TELEMETRY, device.outbox.add(window()))
        return device.id in output.read_text()

    eventually(heard, "the subscriber prints telemetry")


def test_the_example_prints_verified_telemetry(device: FleetDevice, output: Path) -> None:
    device.hello()
    say_until_heard(device, output)
    text = output.read_text()
    assert f"'epoch': '{device.outbox.epoch}'" in text
    assert "'kind': 'window'" in text and "Traceback" not in text


def test_the_example_prints_no_forgery(device: FleetDevice, output: Path) -> None:
    device.hello()
    say_until_heard(device, output)
    device.outbox.key = PrivateKey.generate()  # whoever has the broker's password but not the device's key
    forged = device.outbox.next_seq
    device.send(Channel.TELEMETRY, device.outbox.add(window()))
    eventually(lambda: "REFUSED" in output.read_text(), "the forgery is refused")
    device.send(Channel.TELEMETRY, b"not even an envelope")
    device.send(Channel.TELEMETRY, bytes.fromhex("c4821b7fffffffffffffff01"))  # 1e9223372036854775807
    eventually(lambda: output.read_text().count("REFUSED") == 3, "garbage is refused, and the next one heard")
    assert f"'seq': {forged}," not in output.read_text()


def test_the_example_says_why_it_is_not_let_in_and_how_it_is_used(fleet: Running, tmp_path: Path) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "subscriber"}).json()
    (tmp_path / "devices.json").write_text("[]")
    words = [made["host"], str(made["port"]), made["user"], "wrong", "f", str(tmp_path / "devices.json")]
    for arguments, said in ((words, "does not let"), ([], "subscriber.py HOST PORT")):
        command = [sys.executable, str(EXAMPLE), *arguments]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert told.returncode == 1 and said in told.stderr and "Traceback" not in told.stderr


def test_what_a_device_signs_and_is_no_message_ends_the_example_not(
    device: FleetDevice, output: Path
) -> None:
    def refused(times: int) -> bool:
        return output.read_text().count("REFUSED") == times

    device.hello()
    say_until_heard(device, output)
    for count, payload in enumerate((b"\xff", b"\x00", b""), 1):
        device.send(Channel.TELEMETRY, sign(payload, device.topic(Channel.TELEMETRY), device.outbox.key))
        eventually(partial(refused, count), "it is refused")
    assert "Traceback" not in output.read_text()


def test_a_number_that_takes_minutes_holds_nothing_up_whoever_has_signed_it(
    device: FleetDevice, output: Path
) -> None:
    number = b"\xc2\x5a" + (100_000).to_bytes(4, "big") + b"\xfd" * 100_000
    fraction = (
        b"\xc4\x82\x01" + number
    )  # a decimal fraction of 240,000 digits: cbor2 takes 37 s to multiply it out
    device.hello()
    say_until_heard(device, output)
    for hostile in (
        fraction,
        b"\xd2" + fraction,
        b"\xd2\x84\x40\xa0" + fraction + b"\x40",
        sign(fraction, device.topic(Channel.TELEMETRY), device.outbox.key),  # a device that was taken over
        sign(b"\xa1\x61v" + fraction, device.topic(Channel.TELEMETRY), device.outbox.key),
    ):
        device.send(Channel.TELEMETRY, hostile)
    last = device.outbox.next_seq
    device.send(Channel.TELEMETRY, device.outbox.add(window()))
    eventually(lambda: f"'seq': {last}," in output.read_text(), "what comes after them is heard")
    assert output.read_text().count("REFUSED") == 5
