"""Kinds of simulated devices: the honest one, and each way in which one may be broken.

A kind says a window at its turn, once every few seconds, or what the function says that its registration
decorates. Beside it stand what the server should make of it: reasons for which it refuses messages in that
device's name, and the rule of the alert. A broken device goes on sending its true windows too, wherever the
kind allows it: the server must tell one from the other. To add a kind, register it; the command line, its
help and the tests find it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from edge_contracts.cose import MAX_ENVELOPE_BYTES, sign
from edge_contracts.envelope import seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, Gap, Phase, Telemetry
from edge_contracts.topics import Channel, topic
from edge_fleet.assignment import State
from edge_fleet.brokers.base import MAX_PACKET_BYTES
from edge_fleet.simulation.device import Behaviour, SimulatedDevice
from edge_fleet.simulation.stream import Outgoing

HONEST = "honest"
NEVER_S = 1e9
AHEAD_MS = 3_600_000
DRIFTS_FROM, TOGETHER_FROM = 1, 3  # turns
OVERSIZED_EVERY = 3  # turns; a packet beyond the broker's limit ends the connection
# 19 MB; a sender may have 8 MB waiting in the server
FLOOD_EVERY, FLOOD_MESSAGES, FLOOD_BYTES = 5, 400, 48 << 10
FAR_AHEAD = 5


class Deed(Enum):
    """What a device does at its turn besides sending."""

    CUT = "cut"  # end the connection without a word, and come back


@dataclass(frozen=True)
class Turn:
    """One turn of a device.

    Args:
        number: 0 for the first of this run.
        hello: Its last hello, as it was sent.
    """

    now_s: float
    number: int
    inferences: int
    hello: Outgoing | None = None


Said = Iterator[Outgoing | Deed]
Speak = Callable[[SimulatedDevice, Turn], Said]


@dataclass(frozen=True)
class Kind:
    """One kind.

    Args:
        what: What is wrong with it, for a person.
        answer: What the server should make of it, for a person.
        refused: Reasons, of which each must be counted in the device's name.
        alert: Rule of the alert that comes; "" for none. Some take minutes.
        phases: Where installations of any release end; empty when they are confirmed as others are.
        connections: How many of it there are with one name and one key.
    """

    name: str
    what: str
    answer: str
    speak: Speak = field(repr=False)
    behaviour: Behaviour
    refused: tuple[str, ...] = ()
    alert: str = ""
    phases: tuple[State, ...] = ()
    connections: int = 1


KINDS: dict[str, Kind] = {}


def _window(device: SimulatedDevice, turn: Turn, **fields: object) -> Said:
    window = device.window(turn.inferences, turn.now_s, **fields)
    if window is not None:
        yield window


def kind(
    name: str,
    what: str,
    answer: str,
    *,
    behaviour: Behaviour | None = None,
    refused: tuple[str, ...] = (),
    alert: str = "",
    phases: tuple[State, ...] = (),
    connections: int = 1,
) -> Callable[[Speak], Speak]:
    """Register a kind that says a window at each turn, or what a function says that is decorated with this.

    The arguments are those of `Kind`.
    """
    its = behaviour or Behaviour()
    KINDS[name] = Kind(name, what, answer, _window, its, refused, alert, phases, connections)

    def register(speak: Speak) -> Speak:
        KINDS[name] = replace(KINDS[name], speak=speak)
        return speak

    return register


kind(HONEST, "nothing", "takes it all")


@kind(
    "forged",
    "sends each window with a changed byte first",
    "signature-invalid, and an alert with the message",
    refused=("signature-invalid",),
    alert="bad-signature",
)
def _forged(device: SimulatedDevice, turn: Turn) -> Said:
    for true in _window(device, turn):
        assert isinstance(true, Outgoing)
        yield Outgoing(true.topic, true.payload[:-1] + bytes([true.payload[-1] ^ 1]), is_wrong=True)
        yield true


@kind(
    "stranger",
    "signs with a key that is not its own, too",
    "key-unknown, and an alert with the message",
    refused=("key-unknown",),
    alert="bad-signature",
)
def _stranger(device: SimulatedDevice, turn: Turn) -> Said:
    record = device.measured(turn.inferences, turn.now_s)
    if record is not None:
        where = topic(device.fleet, device.id, Channel.TELEMETRY)
        message = Telemetry(epoch=device.stream.epoch, seq=0, prev=CHAIN_START, recs=(record,))
        yield Outgoing(where, seal(message, where, PrivateKey.generate()), is_wrong=True)
    yield from _window(device, turn)


@kind(
    "replays",
    "sends its last hello again",
    "replayed; an alert after three in an hour",
    refused=("replayed",),
    alert="replay",
)
def _replays(device: SimulatedDevice, turn: Turn) -> Said:
    if turn.hello is not None:
        yield Outgoing(turn.hello.topic, turn.hello.payload, is_wrong=True)
    yield from _window(device, turn)


@kind("reordered", "sends two windows, the later first", "puts them in order, takes both")
def _reordered(device: SimulatedDevice, turn: Turn) -> Said:
    yield from reversed([*_window(device, turn), *_window(device, turn)])


@kind(
    "gap", "loses a window and signs that it did", "an alert with the records that it owns up to", alert="gap"
)
def _gap(device: SimulatedDevice, turn: Turn) -> Said:
    record = device.measured(turn.inferences, turn.now_s)
    if record is not None:
        lost = device.stream.lose(turn.now_s, record)
        yield device.stream.seal(
            turn.now_s, Gap(first_seq=lost, last_seq=lost, records=1, reason="outbox full"), record
        )


@kind(
    "hole",
    "loses its second window without a word",
    "acknowledges up to the hole; an alert after ten minutes",
    alert="hole",
)
def _hole(device: SimulatedDevice, turn: Turn) -> Said:
    record = device.measured(turn.inferences, turn.now_s)
    if turn.number == 1 and record is not None:
        device.stream.lose(turn.now_s, record)
    yield from _window(device, turn)


kind(
    "fork",
    "is two devices with one key and one memory",
    "fork, and an alert with both histories",
    refused=("fork",),
    alert="fork",
    connections=2,
)


@kind(
    "oversized",
    "sends messages that are too large, some for the server, some for the broker",
    "format-invalid; the broker ends the connection",
    refused=("format-invalid",),
)
def _oversized(device: SimulatedDevice, turn: Turn) -> Said:
    where = topic(device.fleet, device.id, Channel.TELEMETRY)
    yield from _window(device, turn)
    yield Outgoing(where, sign(bytes(MAX_ENVELOPE_BYTES), where, device.key), is_wrong=True)
    if turn.number % OVERSIZED_EVERY == OVERSIZED_EVERY - 1:
        yield Outgoing(where, bytes(MAX_PACKET_BYTES + 1), is_wrong=True)


@kind("clock", "has a clock that is an hour ahead", "takes it; an alert", alert="clock")
def _clock(device: SimulatedDevice, turn: Turn) -> Said:
    end_ms = round(turn.now_s * 1000) + AHEAD_MS
    yield from _window(device, turn, start_ms=end_ms - 1000, end_ms=end_ms)


@kind("flapping", "loses its connection after each window", "takes every window once, however often it comes")
def _flapping(device: SimulatedDevice, turn: Turn) -> Said:
    yield from _window(device, turn)
    yield Deed.CUT


kind(
    "stalls",
    "begins to download a release and never ends",
    "waits as long as the plan says, then calls it unreachable",
    behaviour=Behaviour(download_s=NEVER_S),
    phases=(State.DOWNLOADING, State.UNREACHABLE),
)
kind(
    "golden",
    "finds that a release's golden inputs do not agree",
    "counts a refused installation; the gate fails",
    behaviour=Behaviour(always=(Phase.REFUSED, "golden-mismatch")),
    phases=(State.REFUSED,),
)
kind(
    "crashes",
    "goes down while a release is on trial, and back",
    "counts a rollback; the gate fails",
    behaviour=Behaviour(always=(Phase.ROLLED_BACK, "restarted")),
    phases=(State.ROLLED_BACK,),
)
kind(
    "slower",
    "is ten times as slow with a release",
    "takes it; gates on latency fail",
    behaviour=Behaviour(slowed=10.0),
)
kind(
    "errors",
    "fails at every third inference with a release",
    "takes it; gates on errors fail",
    behaviour=Behaviour(errors=0.34),
)


@kind("drifts", "has inputs that drift", "an alert when a fifth of a model's devices do", alert="drift")
def _drifts(device: SimulatedDevice, turn: Turn) -> Said:
    fields: dict[str, object] = {"drifting": ("data-drift",)} if turn.number >= DRIFTS_FROM else {}
    yield from _window(device, turn, **fields)


@kind(
    "together",
    "drifts from its fourth window on, with all of its kind",
    "the same alert, whatever release they run",
    alert="drift",
)
def _together(device: SimulatedDevice, turn: Turn) -> Said:
    fields: dict[str, object] = {"drifting": ("data-drift",)} if turn.number >= TOGETHER_FROM else {}
    yield from _window(device, turn, **fields)


@kind(
    "garbage",
    "sends bytes that mean nothing, on all of its topics",
    "format-invalid",
    refused=("format-invalid",),
)
def _garbage(device: SimulatedDevice, turn: Turn) -> Said:
    for channel in (Channel.TELEMETRY, Channel.STATUS, Channel.HELLO):
        yield Outgoing(topic(device.fleet, device.id, channel), secrets.token_bytes(200), is_wrong=True)
    yield from _window(device, turn)


@kind(
    "unannounced",
    "sends envelopes of an epoch that no hello announced",
    "epoch-unannounced",
    refused=("epoch-unannounced",),
)
def _unannounced(device: SimulatedDevice, turn: Turn) -> Said:
    record = device.measured(turn.inferences, turn.now_s)
    if record is not None:
        where = topic(device.fleet, device.id, Channel.TELEMETRY)
        message = Telemetry(epoch=secrets.token_hex(8), seq=FAR_AHEAD, prev=CHAIN_START, recs=(record,))
        yield Outgoing(where, seal(message, where, device.key), is_wrong=True)
    yield from _window(device, turn)


@kind(
    "floods",
    "sends 19 MB of noise at every fifth turn",
    "format-invalid, or overloaded; others go on as if nothing were",
    refused=("format-invalid",),
)
def _floods(device: SimulatedDevice, turn: Turn) -> Said:
    where = topic(device.fleet, device.id, Channel.TELEMETRY)
    noise = Outgoing(where, secrets.token_bytes(FLOOD_BYTES), is_wrong=True)
    for _ in range(FLOOD_MESSAGES if turn.number % FLOOD_EVERY == 0 else 0):
        yield noise
    yield from _window(device, turn)


@kind("silent", "says hello, and then nothing", "an alert after fifteen minutes", alert="silence")
def _silent(device: SimulatedDevice, turn: Turn) -> Said:
    yield from ()
