"""One simulated device's connection: it comes back by itself, and says what its kind says at its turns."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass

from edge_contracts.errors import ContractError
from edge_contracts.messages import FINAL_PHASES
from edge_contracts.sketch import bin_index
from edge_contracts.topics import Channel
from edge_fleet.simulation import mqtt
from edge_fleet.simulation.counts import Counts
from edge_fleet.simulation.device import SimulatedDevice
from edge_fleet.simulation.kinds import HONEST, KINDS, Deed, Turn
from edge_fleet.simulation.stream import Outgoing

KEEPALIVE_S = 120  # with a window each minute there is hardly a ping
HELLO_S = 60.0  # as an agent's
RESEND_S, RESEND_MOST = 20.0, 50
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
CONNECT_TIMEOUT_S = 30.0
FULL_BYTES = 32 << 20  # waits in a socket that the broker does not read; no more of a flood is sent
SHORTEST_MS = 0.01


@dataclass(frozen=True)
class Pace:
    """How often things happen.

    Args:
        every_s: Between two turns of a device; None when it speaks only when it is told to.
        hello_s: Between two hellos, on average.
        inferences: Of each window.
        connects_per_s: How many connect at the beginning.
        resend_s: After how long what is not acknowledged is sent again.
    """

    every_s: float | None = None
    hello_s: float = HELLO_S
    inferences: int = 100
    connects_per_s: float = 1000.0
    resend_s: float = RESEND_S


@dataclass(frozen=True)
class Member:
    """A device and how it logs in.

    Args:
        twin: Which of those with the same name.
    """

    device: SimulatedDevice
    password: str
    kind: str = HONEST
    twin: int = 0


@dataclass(frozen=True)
class Way:
    """How to the broker.

    Args:
        tls: How it is checked; None for plain MQTT.
        source: Loopback address to come from, each of which has its own 28,000 ports; None for any.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    source: str | None = None


class Connection(asyncio.Protocol):
    """One device's; for one event loop."""

    def __init__(self, member: Member, way: Way, pace: Pace, counts: Counts) -> None:
        """Describe it; `begin` opens it."""
        self.member, self.device = member, member.device
        self.is_ready, self.is_still = False, False
        self._way, self._pace, self._counts, self._kind = way, pace, counts, KINDS[member.kind]
        self._transport: asyncio.Transport | None = None
        self._reader = mqtt.Reader()
        self._packet_id = 0
        self._pause_s = FIRST_PAUSE_S
        self._is_ended = self._is_our_cut = False
        self._hello: Outgoing | None = None
        self._turns = 0
        self._written_s = self._resent_s = self._hello_due_s = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._opening: asyncio.Task[None] | None = None

    def begin(self, place: float) -> None:
        """Open it, and take turns.

        Args:
            place: From 0 to 1: when in the time between two turns its own is.
        """
        self._opening = asyncio.ensure_future(self._open())
        if self._pace.every_s is not None:
            self._after("turn", self._pace.every_s * place, self._take_turn)

    def end(self) -> None:
        """Say goodbye, for good."""
        self._is_ended = True
        for timer in self._timers.values():
            timer.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._transport is not None:
            self._transport.write(mqtt.GOODBYE)
            self._transport.close()

    def abort(self) -> None:
        """Close its socket at once, if it is still open."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, said: Iterable[Outgoing], again: bool = False) -> None:
        """Publish.

        Args:
            again: Whether it was sent before.
        """
        transport = self._transport
        for one in said:
            if transport is None or transport.is_closing():
                return
            if one.is_wrong and transport.get_write_buffer_size() > FULL_BYTES:
                return
            self._packet_id = self._packet_id % 65535 + 1
            transport.write(mqtt.publish(one.topic, one.payload, self._packet_id))
            self._written_s = time.monotonic()
            if one.is_wrong:
                self._counts.wrong += 1
            elif not one.topic.endswith(Channel.TELEMETRY):
                self._counts.states += 1
            elif not again:
                self._counts.envelopes += 1

    def look_after(self) -> None:
        """What is due now and then: a hello, a ping, envelopes that nobody acknowledged."""
        if not self.is_ready or self._transport is None:
            return
        now_s, wall_s = time.monotonic(), time.time()
        if self._kind.name == "silent":
            self._ping(now_s)
            return
        if now_s >= self._hello_due_s and not self.is_still:
            self._say_hello()
        oldest_s, resend_s = self.device.stream.oldest_s, self._pace.resend_s
        if oldest_s is not None and wall_s - oldest_s > resend_s and now_s - self._resent_s > resend_s:
            self._resent_s = now_s
            self.send(self.device.stream.unacknowledged()[:RESEND_MOST], again=True)
        self._ping(now_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._reader, self._is_our_cut = transport, mqtt.Reader(), False
        name = f"sim-{self.device.id}" + (f"-{self.member.twin}" if self.member.twin else "")
        transport.write(mqtt.connect(name, self.device.id, self.member.password, KEEPALIVE_S))

    def data_received(self, data: bytes) -> None:
        """Take what the broker sends."""
        try:
            for packet in self._reader.feed(data):
                self._take(packet)
        except ContractError:  # not MQTT: whoever that is, it is no broker
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Come back after a while."""
        if not self._is_our_cut and self.is_ready and not self._is_ended:
            self._counts.cut += 1
        self._transport, self.is_ready = None, False
        self._come_back()

    async def _open(self) -> None:
        loop, way = asyncio.get_running_loop(), self._way
        local = None if way.source is None else (way.source, 0)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(
                    lambda: self, way.host, way.port, ssl=way.tls, local_addr=local,
                    server_hostname=way.host if way.tls else None,
                )  # fmt: skip
        except (OSError, TimeoutError):
            self._come_back()

    def _come_back(self) -> None:
        if self._is_ended:
            return
        pause_s = 0.5 if self._is_our_cut else random.uniform(1, 2) * self._pause_s
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)

        def again() -> None:
            self._opening = asyncio.ensure_future(self._open())

        self._after("connect", pause_s, again)

    def _take(self, packet: mqtt.Packet) -> None:
        assert self._transport is not None
        if packet.kind == mqtt.Kind.CONNACK:
            if mqtt.refusal(packet):
                self._counts.shut_out += 1
                self._transport.abort()
                return
            self._transport.write(mqtt.subscribe(1, self.device.topics))  # QoS 0, as the agent does
        elif packet.kind == mqtt.Kind.SUBACK:
            if any(code & 128 for code in packet.body[2:]):
                self._counts.shut_out += 1
                self._transport.abort()
                return
            self._greet()
        elif packet.kind == mqtt.Kind.PUBLISH:
            message = mqtt.published(packet)
            if message.packet_id:
                self._transport.write(mqtt.acknowledge(message.packet_id))
            self._hear(message.topic, message.payload)

    def _greet(self) -> None:
        self.is_ready, self._pause_s = True, FIRST_PAUSE_S
        self._say_hello()
        self.send(self.device.stream.unacknowledged()[:RESEND_MOST], again=True)

    def _say_hello(self) -> None:
        self._hello = self.device.hello(time.time())
        # not exactly: devices that came back together should not stay together
        self._hello_due_s = time.monotonic() + self._pace.hello_s * random.uniform(0.5, 1.5)
        self.send([self._hello])

    def _hear(self, where: str, payload: bytes) -> None:
        device, counts, now_s = self.device, self._counts, time.time()
        disbelieved, acknowledged, progress = device.refused, device.stream.acknowledged, device.progress
        number = device.assignment.number if device.assignment else -1
        said = device.take(where, payload, now_s)
        counts.disbelieved += device.refused - disbelieved
        counts.acknowledged += device.stream.acknowledged - acknowledged
        for lag_s in device.stream.lags_s:
            counts.lags[bin_index(max(SHORTEST_MS, 1000 * lag_s))] += 1
        device.stream.lags_s.clear()
        if device.assignment is not None and device.assignment.bundle and device.assignment.number != number:
            counts.assignments += 1
        if self._kind.name != "silent":
            self.send(said)
        self._count_end(progress is not device.progress)
        self._wait_for_installation()

    def _wait_for_installation(self) -> None:
        due_s = self.device.next_due_s()
        if due_s is not None:
            self._after("install", max(0.0, due_s - time.time()), self._go_on)

    def _go_on(self) -> None:
        before = self.device.progress
        said = self.device.due(time.time())
        if self._kind.name != "silent":
            self.send(said)
        self._count_end(before is not self.device.progress)
        self._wait_for_installation()

    def _count_end(self, changed: bool) -> None:
        progress, assigned = self.device.progress, self.device.assignment
        if changed and progress and assigned and assigned.bundle and progress.phase in FINAL_PHASES:
            self._counts.ended[progress.phase] += 1

    def _take_turn(self) -> None:
        assert self._pace.every_s is not None
        self._after("turn", self._pace.every_s, self._take_turn)
        # where there is no connection its windows wait, as an agent's do; what is wrong needs one
        if self.is_still or (not self.is_ready and self._kind.name != HONEST):
            return
        turn = Turn(time.time(), self._turns, self._pace.inferences, self._hello)
        self._turns += 1
        for said in self._kind.speak(self.device, turn):
            if isinstance(said, Outgoing):
                if self.is_ready:
                    self.send([said])
                else:
                    self._counts.envelopes += 1  # goes out with those that are not acknowledged
            elif said is Deed.CUT and self._transport is not None:
                self._is_our_cut = True
                self._transport.abort()

    def _ping(self, now_s: float) -> None:
        if now_s - self._written_s > KEEPALIVE_S / 2 and self._transport is not None:
            self._written_s = now_s
            self._transport.write(mqtt.PING)

    def _after(self, what: str, seconds: float, work: object) -> None:
        assert callable(work)
        if (before := self._timers.get(what)) is not None:
            before.cancel()
        self._timers[what] = asyncio.get_running_loop().call_later(seconds, work)
