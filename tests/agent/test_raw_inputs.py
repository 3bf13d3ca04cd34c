"""No raw input leaves the device: everything that is published is searched for what went in."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import build
from agent_fleet import TOKEN, TinyFleet, find_nats, tiny_fleet, until
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge_contracts.bundle import open_bundle

AGENT = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
INPUTS = np.random.default_rng(11).uniform(-2, 2, (40, 4)).astype(np.float32)

pytestmark = pytest.mark.skipif(find_nats() is None, reason="nats-server is not installed")


def spellings(value: float) -> list[bytes]:
    """How one number of an input might be written: binary in both orders and widths, or decimal."""
    binary = [struct.pack(form, value) for form in ("<d", ">d", "<f", ">f")]
    return [*binary, f"{value:.5f}".encode(), f"{value:.6g}".encode()]


def found(payloads: list[bytes], inputs: np.ndarray) -> list[float]:
    """Numbers of the inputs that are in what was published; four bytes may be there by chance, a row not."""
    everything = b"\n".join(payloads)
    values = [float(value) for row in inputs for value in row]
    seen = [value for value in values if any(spelling in everything for spelling in spellings(value))]
    return seen if len(seen) > 1 else []


def test_the_search_finds_an_input_that_leaves() -> None:
    for leaked in (INPUTS[3].tobytes(), INPUTS[3].astype(">f8").tobytes(), str(INPUTS[3].tolist()).encode()):
        assert found([b"x" + leaked], INPUTS) != []
    assert found([np.random.default_rng(5).bytes(100_000)], INPUTS) == []


def test_nothing_that_is_published_holds_an_input(tmp_path: Path) -> None:
    inputs, home = tmp_path / "inputs", tmp_path / "home"
    inputs.mkdir()
    np.savez(inputs / "good.npz", x=INPUTS)
    refused = INPUTS[:4].copy()
    refused[:, 0] = np.nan
    np.savez(inputs / "refused.npz", x=refused)
    with tiny_fleet(tmp_path) as fleet:
        listener, payloads, ready = listen(fleet)
        until(lambda: ready, "the listener is there")
        enrol = ["enroll", "--server", fleet.url, "--token", TOKEN, "--profile", "x86-cpu", "--name", "cam-1"]
        subprocess.run([*AGENT, *enrol, "--home", str(home)], check=True, capture_output=True, timeout=60)
        archive = build("float32", key=fleet.publisher, version="1")
        fleet.assign(archive, open_bundle(archive).digest, number=1, counter=1)
        run = [
            "run",
            "--home",
            str(home),
            "--input",
            str(inputs),
            "--loop",
            "--rate",
            "200",
            "--window",
            "0.5",
        ]
        run += ["--hello", "1", "--health-window", "0.5", "--health-inferences", "5"]
        with (tmp_path / "log").open("wb") as log:
            daemon = subprocess.Popen([*AGENT, *run], stderr=log)
        try:
            until(lambda: len(fleet.records("window")) >= 3, "windows")
            until(lambda: any(window.refused for window in fleet.records("window")), "a refused input")
        finally:
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(20)
            listener.disconnect()
            listener.loop_stop()
        assert sum(window.inferences for window in fleet.records("window")) > 40
        assert len(payloads) > 5
        assert found(payloads, INPUTS) == []


def listen(fleet: TinyFleet) -> tuple[Client, list[bytes], list[bool]]:
    """Everything on the broker, whatever the topic."""
    payloads: list[bytes] = []
    ready: list[bool] = []
    listener = Client(CallbackAPIVersion.VERSION2, client_id="listener")
    listener.username_pw_set("server", "server")
    listener.on_message = lambda _c, _d, message: payloads.append(bytes(message.payload))
    listener.on_subscribe = lambda *_: ready.append(True)
    listener.connect("127.0.0.1", fleet.broker.port)
    listener.loop_start()
    listener.subscribe("#", 0)
    return listener, payloads, ready
