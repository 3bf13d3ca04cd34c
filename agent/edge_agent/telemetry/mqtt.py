"""The connection to the broker: a thread that keeps it up, and a queue that what arrives goes into.

MQTT 3.1.1, clean sessions; it sends with QoS 1 and listens with QoS 0. Nothing is decided here and
nothing is remembered: every connection is a new client, so that no message of an old one is sent again
behind the outbox's back. Callbacks only put things into the queue; the agent's own thread does the work.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from edge_agent.device.config import DeviceConfig
from edge_agent.errors import HomeInvalid
from edge_contracts.topics import TO_DEVICE, Channel, topic

if TYPE_CHECKING:  # loaded by `Link`: a device without a fleet has no use for MQTT, TLS and HTTP in memory
    import ssl

    from paho.mqtt.client import Client, MQTTMessage

    from edge_agent.device.certificate import ClientCertificate

log = logging.getLogger(__name__)

KEEPALIVE_S = 45  # carrier NAT drops idle flows at 60 s
CONNECT_TIMEOUT_S = 10.0
IN_FLIGHT = 20  # unanswered PUBLISH packets: more brings nothing on a short link (study), less memory
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# MQTT 3.1.1 section 3.2.2.3; the other codes are of a broker that cannot just now, or of our programming
REFUSALS = ("Bad user name or password", "Not authorized")
# RFC 8446 section 6.2: what a broker ends the connection with that does not take the certificate
_ALERT = re.compile(r"ALERT_((?:BAD_|UNSUPPORTED_)?CERTIFICATE(?:_[A-Z]+)?|UNKNOWN_CA|ACCESS_DENIED)\b")


@dataclass(frozen=True)
class LinkUp:
    """Connected and subscribed."""


@dataclass(frozen=True)
class LinkDown:
    """Not connected any more, or an attempt has failed.

    Args:
        refused: Whether the broker was there, and would not have this device.
    """

    reason: str
    refused: bool = False


@dataclass(frozen=True)
class Received:
    """A message from the server, or from whoever says so: not verified."""

    channel: Channel
    payload: bytes


Happening = LinkUp | LinkDown | Received


class Link:
    """One device's connection.

    Args:
        happened: Called in the network thread; must not wait.
    """

    def __init__(
        self,
        config: DeviceConfig,
        happened: Callable[[Happening], None],
        random: Random,
        certificate: ClientCertificate | None = None,
    ) -> None:
        """Describe the connection; `start` begins to keep it up.

        Args:
            certificate: What the broker is shown, where it asks for one.

        Raises:
            HomeInvalid: The CA in the configuration is not a certificate.
        """
        from paho.mqtt import client, enums

        self._paho, self._enums = client, enums
        self._config = config
        self._happened = happened
        self._random = random
        self._topics = {topic(config.fleet, config.device, channel): channel for channel in TO_DEVICE}
        self._certificate = certificate
        self._tls = _tls(config)
        self._client: Client | None = None
        self._up = threading.Event()
        self._stopping = threading.Event()
        self._reason, self._refused = "", False
        self._thread = threading.Thread(target=self._keep_up, name="mqtt", daemon=True)

    @property
    def is_up(self) -> bool:
        """Whether it is connected and subscribed."""
        return self._up.is_set()

    def start(self) -> None:
        """Connect, and connect again whenever it is lost, until `stop`."""
        self._thread.start()

    def publish(self, channel: Channel, payload: bytes) -> bool:
        """Hand a message to the connection; False when there is none, and then nothing is kept."""
        client = self._client
        if client is None or not self.is_up:
            return False
        where = topic(self._config.fleet, self._config.device, channel)
        return bool(client.publish(where, payload, qos=1).rc == self._enums.MQTTErrorCode.MQTT_ERR_SUCCESS)

    def stop(self) -> None:
        """Disconnect for good; what was published before is still sent."""
        self._stopping.set()
        client = self._client
        if client is not None:
            client.disconnect()
        if self._thread.is_alive():
            self._thread.join(CONNECT_TIMEOUT_S)

    def _keep_up(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            self._reason, self._refused = "", False
            was_up = self._connect_once()
            if self._stopping.is_set():
                return
            self._happened(LinkDown(self._reason or "the connection ended", self._refused))
            pause_s = FIRST_PAUSE_S if was_up else min(pause_s * 2, LONGEST_PAUSE_S)
            # spread out: a broker that restarts would be met by all its devices in the same second
            self._stopping.wait(self._random.uniform(0.5, 1.5) * pause_s)

    def _connect_once(self) -> bool:
        """Connect and serve the connection until it ends; whether it had come up."""
        client = self._new_client()
        self._client = client
        try:
            if self._tls is not None:
                if self._certificate is not None:
                    self._certificate.prepare(self._tls)
                client.tls_set_context(self._tls)
            client.connect(self._config.mqtt_host, self._config.mqtt_port, KEEPALIVE_S)
            if self._stopping.is_set():
                client.disconnect()
            ended = client.loop_forever(retry_first_connection=False)
            if ended != self._enums.MQTTErrorCode.MQTT_ERR_SUCCESS and not self._reason:
                self._reason = str(ended)
        except HomeInvalid as error:
            self._reason = str(error)
        except OSError as error:  # ssl.SSLError and socket.gaierror among them
            self._reason = f"{self._config.mqtt_host}:{self._config.mqtt_port}: {error.strerror or error}"
        self._client = None
        was_up = self._up.is_set()
        self._up.clear()
        return was_up

    def _new_client(self) -> Client:
        client = self._paho.Client(
            self._enums.CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id,
            clean_session=True,
            protocol=self._enums.MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(self._config.mqtt_user, self._config.mqtt_password)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_log = self._on_log
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _on_log(self, _client: Client, _data: Any, _level: Any, text: str) -> None:
        """Take from paho's log an alert that refuses the certificate; to us it says "connection lost".

        TLS 1.3 has no answer to a certificate: the refusal comes after the handshake, to the first read.
        Where the connection is reset before it is read, nothing tells it from a network that fails.
        """
        if alert := _ALERT.search(text):
            said = alert[1].lower().replace("_", " ")
            self._reason = f"the broker refuses the device's certificate: {said}"
            self._refused = True

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        client.on_log = None  # each packet would be put into words
        if reason.is_failure:
            self._refused = str(reason) in REFUSALS
            self._reason = f"the broker refuses the device: {reason}"
            return
        # QoS 0: what is lost is sent again anyway, and nats-server keeps a consumer for every QoS 1
        # subscription, of which it has 1,000 for all clients together
        client.subscribe([(name, 0) for name in self._topics])

    def _on_subscribe(self, client: Client, _data: Any, _mid: int, reasons: Any, _props: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._reason = "the broker refuses the subscription to the device's own topics"
            client.disconnect()
            return
        self._up.set()
        self._happened(LinkUp())

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if not self._reason:
            self._reason = str(reason)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        channel = self._topics.get(message.topic)
        if channel is not None and not message.retain:  # a broker's memory counts for nothing
            self._happened(Received(channel, bytes(message.payload)))


def _tls(config: DeviceConfig) -> ssl.SSLContext | None:
    if not config.mqtt_tls:
        return None
    import ssl

    try:
        return ssl.create_default_context(cadata=config.mqtt_ca or None)
    except ssl.SSLError:
        raise HomeInvalid("the broker's CA in config.json is not a certificate; enrol again") from None
