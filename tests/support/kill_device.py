"""A device that keeps numbered events and sends them, as a process of its own that can be killed.

    python kill_device.py HOME FIRST RATE [DURABILITY]

The agent's own reporter, outbox and connection; only what is reported is made here. Says on its output
`kept N` when event N is in the outbox, `sent SEQ` for each envelope that it gives to the broker, and, once
its input is closed and everything is acknowledged, `done`.
"""

from __future__ import annotations

import os
import queue
import select
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, time

from edge_agent.device.config import DeviceConfig, read_config, read_device_key
from edge_agent.device.home import Home
from edge_agent.telemetry.mqtt import Happening, Link, LinkDown, LinkUp
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_agent.telemetry.reporter import Reporter
from edge_contracts.messages import DeviceState, Event
from edge_contracts.topics import Channel

EVERY = 10  # events of one put, as a busy device has them


class Counted(Link):
    """The connection, which says what it takes."""

    def publish(self, channel: Channel, payload: bytes) -> bool:
        """Hand over, and say so."""
        taken = super().publish(channel, payload)
        if taken and channel is Channel.TELEMETRY:
            say("sent")
        return taken


def say(text: str) -> None:
    """One line at once, whole."""
    os.write(1, text.encode() + b"\n")


def main() -> None:
    """Keep and send."""
    home, number, rate = Home(Path(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])
    durability = Durability(sys.argv[4]) if len(sys.argv) > 4 else Durability.POWER
    config = read_config(home)
    if config is None:
        raise SystemExit("not enrolled")
    happenings: queue.Queue[Happening] = queue.Queue()
    link = Counted(config, happenings.put, Random())
    key = read_device_key(home, config)
    # snapshots are numbered by the clock: a device that is killed must not give one out twice
    snapshot = Snapshots(config)
    reporter = Reporter(home, config, key, link, snapshot, Random(), 2.0, None, durability)
    link.start()
    began, kept, open_input = monotonic(), 0, True
    while True:
        if open_input and select.select([sys.stdin], [], [], 0)[0]:
            open_input = bool(sys.stdin.readline())
        while open_input and kept < (monotonic() - began) * rate:
            reporter.keep([Event(name=f"n{number + n}", time_ms=1) for n in range(EVERY)])
            number, kept = number + EVERY, kept + EVERY
            say(f"kept {number - 1}")
        with suppress(queue.Empty):
            take(reporter, happenings.get(timeout=0.02))
        reporter.tick(monotonic())
        if not open_input and not len(reporter.outbox):
            break
    link.stop()
    reporter.close()
    say("done")


def take(reporter: Reporter, happening: Happening) -> None:
    """As the agent does."""
    if isinstance(happening, LinkUp):
        reporter.link_up(monotonic())
    elif isinstance(happening, LinkDown):
        reporter.link_down(happening.reason)
    elif happening.channel is Channel.ACK:
        reporter.acknowledged(happening.payload, monotonic())


class Snapshots:
    """Where the device stands."""

    def __init__(self, config: DeviceConfig) -> None:
        """Of this device."""
        self._config = config

    def __call__(self, kind: str, outbox: Outbox) -> DeviceState:
        """A snapshot with a number of its own."""
        return DeviceState.model_validate(
            {
                "type": kind,
                "device": self._config.device,
                "n": int(time() * 1_000_000),
                "epoch": outbox.epoch,
                "next_seq": outbox.next_seq,
                "agent": "0.1.0",
                "profile": self._config.lineage,
                "counter": 0,
                "time_ms": int(time() * 1000),
            }
        )


if __name__ == "__main__":
    main()
