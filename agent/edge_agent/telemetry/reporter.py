"""The device's voice: hello, status and telemetry, sent and sent again until the server has them.

Runs in the agent's thread. With the broker gone everything stays in the outbox; with the disk gone it goes on
from memory (`refuge.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from time import time

from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid, OutboxUnwritable
from edge_agent.telemetry.flight import RESERVE, Flight
from edge_agent.telemetry.forgetting import Forgetting, forgotten
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.mqtt import Link
from edge_agent.telemetry.outbox import Limits, Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_agent.telemetry.refuge import Outboxes
from edge_contracts.envelope import seal
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import DeviceState, Record
from edge_contracts.topics import Channel, topic

log = logging.getLogger(__name__)

Describe = Callable[[str, Outbox], DeviceState]  # "hello" or "status"


class Reporter:
    """What a device says to its fleet.

    Args:
        describe: Makes a snapshot of the device, with a number of its own.
        hello_s: Mean time between two hellos.

    Attributes:
        link_reason: Why the broker is not there, "" when it is.
        refused_since_ms: When the broker first refused this device since the link was up last; 0 for not.
        refusals: How often since then.
        heard_ms: When the server last spoke, by the device's clock; 0 for not yet.
    """

    def __init__(
        self,
        home: Home,
        config: DeviceConfig,
        key: PrivateKey,
        link: Link,
        describe: Describe,
        random: Random,
        hello_s: float = 60.0,
        limits: Limits | None = None,
        durability: str = Durability.POWER,
    ) -> None:
        """Open the outbox; nothing is sent before the link is up."""
        self._config, self._key, self._link = config, key, link
        self._describe, self._random, self._hello_s = describe, random, hello_s
        identity = Identity(config.fleet, config.device, key, config.director)
        self._outboxes = Outboxes(Outbox(home.outbox, identity, limits, Durability(durability)))
        self._flight, self._forgetting = Flight(random), Forgetting()
        self._next_hello_s = 0.0
        self._ack_failed = ""
        self.link_reason, self.heard_ms = "not connected yet", 0
        self.refused_since_ms = self.refusals = 0

    @property
    def outbox(self) -> Outbox:
        """The one that speaks now."""
        return self._outboxes.speaking

    def keep(self, records: Sequence[Record]) -> None:
        """Put records into the outbox; they leave with the next `send`."""
        if records:
            self._outboxes.keep(records)

    def link_up(self, now_s: float) -> None:
        """The broker is there: say hello first, so that the server knows our epoch, then send."""
        self.link_reason = ""
        self.refused_since_ms = self.refusals = 0
        log.info("broker link up", extra={"host": self._config.mqtt_host})
        self.hello(now_s)
        self.send(now_s)

    def link_down(self, reason: str, refused: bool = False) -> None:
        """The broker is gone, or refuses this device: what was on its way may be lost."""
        self.link_reason = reason
        if refused:
            self.refused_since_ms = self.refused_since_ms or _now_ms()
            self.refusals += 1
        log.warning("broker link down", extra={"reason": reason})
        self._flight.disconnected()

    def acknowledged(self, payload: bytes, now_s: float) -> None:
        """An ack has arrived, from the server or from whoever says so."""
        try:
            result = self.outbox.acknowledge(payload)
            if result in ("behind", "forked"):
                self.outbox.begin_again()
                self._flight.disconnected()
                self.hello(now_s)
            elif result == "forgotten" and self._forgetting.said_less(now_s):
                log.error(
                    "the server has forgotten telemetry", extra={"from_seq": self.outbox.remembered + 1}
                )
                self.outbox.put([forgotten(self.outbox.remembered, self.outbox.acked)])
        except OutboxUnwritable as error:
            if str(error) != self._ack_failed:  # said once
                log.error("ack not taken note of", extra={"reason": str(error)})
            self._ack_failed = str(error)
            return
        self._ack_failed = ""
        if result == "refused":
            return
        self.heard_ms = _now_ms()
        if result in ("advanced", "nothing-new"):
            self._forgetting.remembers()
        if result == "advanced":
            self._flight.acknowledged(self.outbox.acked, now_s)
        else:
            self._flight.heard(now_s)
        self.send(now_s)

    def heard(self, now_s: float) -> None:
        """The server has spoken, so it may be time to send again."""
        self._flight.heard(now_s)
        self.heard_ms = _now_ms()

    def sign_with(self, key: PrivateKey, now_s: float) -> None:
        """Speak with another key from now on, and say so: the server learns where the old one ends."""
        self._key = key
        self._outboxes.identify(replace(self._outboxes.identity, key=key))
        if self._link.is_up:
            self.hello(now_s)

    def obey(self, director: PublicKey, now_s: float) -> None:
        """Go by this director's acks from now on; say so when it is another, for it is asked what to run."""
        if director == self._outboxes.identity.director:
            return
        self._outboxes.identify(replace(self._outboxes.identity, director=director))
        if self._link.is_up:
            self.hello(now_s)

    def status(self) -> None:
        """Say where the device stands, if anybody can hear it; the next hello says it anyway."""
        self._say("status", Channel.STATUS)

    def hello(self, now_s: float) -> None:
        """Say where the device stands, and ask what it should run."""
        self._next_hello_s = now_s + self._hello_s * self._random.uniform(0.8, 1.2)
        self._say("hello", Channel.HELLO)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        if self._outboxes.tick(now_s, self._link.is_up):
            self._flight.disconnected()
            self._next_hello_s = now_s  # it announces the epoch of what comes now
        if not self._link.is_up:
            return
        late = self._flight.overdue(now_s)
        # a server that does not answer may have missed the hello that announces our epoch
        if late or now_s >= self._next_hello_s:
            self.hello(now_s)
        self.send(now_s)

    def send_again(self, now_s: float) -> None:
        """Send everything that waits, what is on its way too: the last words before a stop.

        An envelope or an ack that was lost a moment ago would otherwise be waited for longer than a
        stop may take; what arrives twice the server knows already.
        """
        self._flight.disconnected()
        self.send(now_s)

    def send(self, now_s: float) -> None:
        """Send what waits, as far as there is room on the way."""
        if not self._link.is_up or self._flight.room == 0:
            return
        sent = []
        for seq, envelope in self.outbox.waiting(self._flight.room, self._flight.flying, RESERVE):
            if not self._link.publish(Channel.TELEMETRY, envelope):
                break
            sent.append(seq)
        self._flight.sent(sent, now_s)

    def close(self) -> None:
        """Close the outbox."""
        self._outboxes.close()

    def _say(self, kind: str, channel: Channel) -> None:
        if not self._link.is_up:
            return
        try:
            state = self._describe(kind, self.outbox)
        except HomeInvalid as error:
            log.error("nothing said", extra={"reason": str(error)})  # without a new number it is a replay
            return
        where = topic(self._config.fleet, self._config.device, channel)
        self._link.publish(channel, seal(state, where, self._key))


def _now_ms() -> int:
    return int(time() * 1000)
