"""A life of an outbox whose disk cannot sync now and then, to be run under the shim. No tests.

Arguments: the folder, a seed, how many things it does. It marks each record that is kept, each envelope that
leaves, and each that may be forgotten; it ends by SIGKILL, or in good order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import OutboxUnwritable
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.keys import read_private
from edge_contracts.messages import Ack, Event, Telemetry
from edge_contracts.topics import Channel, topic

FLEET, DEVICE = "plant", "cam-1"
ACK, TELEMETRY = (topic(FLEET, DEVICE, channel) for channel in (Channel.ACK, Channel.TELEMETRY))


def identity(folder: Path) -> Identity:
    """Whose outbox it is; the server's key is the device's."""
    key = read_private(folder / "device.key")
    return Identity(FLEET, DEVICE, key, key.public)


def names(envelope: bytes, who: Identity) -> list[str]:
    """What an envelope tells."""
    told = unseal(Telemetry, envelope, TELEMETRY, who.key.public)
    return [record.name for record in told.recs if isinstance(record, Event)]


def mark(**fields: object) -> None:
    """Tell the log what the world knows from now on."""
    Path(os.environ["FAULT_MARK"]).write_text(json.dumps(fields))


def live(folder: Path, seed: int, things: int) -> None:
    """Do things by chance."""
    chance, who, fault = random.Random(seed), identity(folder), Path(os.environ["FAULT_SYNC"])
    outbox = Outbox(folder / "root" / "outbox.db", who, durability=Durability.POWER)
    for thing in range(things):
        match chance.choices(("put", "send", "acknowledge", "fail", "mend"), (4, 4, 4, 2, 3))[0]:
            case "put":
                told = [f"{seed}-{thing}-{n}" for n in range(chance.randint(1, 4))]
                with suppress(OutboxUnwritable):
                    outbox.put([Event(name=one, time_ms=1, detail="x" * 400) for one in told])
                    mark(kept=told)
            case "send":
                for seq, envelope in outbox.waiting(3, ()):
                    chain = chain_value(envelope)
                    mark(epoch=outbox.epoch, seq=seq, chain=chain.hex(), told=names(envelope, who))
            case "acknowledge":
                for seq, envelope in outbox.waiting(1, ()):
                    chain = chain_value(envelope)
                    mark(epoch=outbox.epoch, seq=seq, chain=chain.hex(), told=names(envelope, who))
                    mark(epoch=outbox.epoch, acked=seq)
                    ack = Ack(device=DEVICE, epoch=outbox.epoch, high=seq, chain=chain)
                    with suppress(OutboxUnwritable):
                        outbox.acknowledge(seal(ack, ACK, who.key))
            case "fail":
                fault.touch()
            case "mend":
                fault.unlink(missing_ok=True)
    if chance.random() < 0.7:
        os.kill(os.getpid(), signal.SIGKILL)
    outbox.close()


if __name__ == "__main__":
    live(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
