"""The server's own connection to the broker: hears every device, speaks to every device.

It subscribes with QoS 0 and clean sessions: what is lost is sent again until *we* acknowledge, a broker
keeps nothing for us that could grow stale or fill its store, and the order of one device's messages
stays. What arrives is handed on at once; no work is done in the network thread.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from edge_contracts.topics import FROM_DEVICE, subscription
from edge_fleet.brokers.base import Door, probe_topic
from edge_fleet.errors import BrokerFailed
from edge_fleet.straight_socket import Message, Received, StraightClient

log = logging.getLogger(__name__)

KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 5.0


class Link:
    """One MQTT 3.1.1 connection that comes back by itself.

    Args:
        received: Called in the network thread with messages in their order; must not wait.
        connected: Called in the network thread at every connect, after the subscriptions; must not wait.
    """

    def __init__(
        self,
        door: Door,
        fleet: str,
        user: str,
        password: str,
        received: Received,
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        """Describe the connection; `start` opens it."""
        self._door, self._fleet = door, fleet
        self._received, self._connected = received, connected
        self._probe = probe_topic(fleet)
        self._probe_seen = threading.Event()
        self._probe_nonce = b""
        self._granted = threading.Event()
        self._answered = threading.Event()  # by the first connection: let in, or refused
        self._refusal = ""
        # a secret id: nobody who may log in can take the session over by its name
        self._client = StraightClient(
            self._take,
            CallbackAPIVersion.VERSION2,
            client_id=f"server-{secrets.token_hex(16)}",
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        if user:
            self._client.username_pw_set(user, password)
        if door.tls is not None:
            self._client.tls_set_context(door.tls)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe

    @property
    def is_up(self) -> bool:
        """Whether it is connected, subscribed, and listens."""
        return bool(self._client.is_connected()) and self._granted.is_set() and self._client.is_served

    def start(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect, subscribe, and prove that the broker delivers.

        Args:
            timeout_s: How long a broker may take to be there; one that refuses us is not waited for.

        Raises:
            BrokerFailed: It refuses us, cannot be reached, or does not deliver.
        """
        address = self._door.address
        self._client.connect_async(address.reachable_host, address.port, KEEPALIVE_S)
        self._client.loop_start()
        if not (self._answered.wait(timeout_s) and self._granted.is_set()):
            self.stop()
            raise BrokerFailed(
                f"the broker at {address} does not let the server in: {self._refusal or 'no answer'}"
            )
        if not self.delivers(CONNECT_TIMEOUT_S):
            self.stop()
            raise BrokerFailed(
                f"the broker at {address} does not deliver: a message to {self._probe} did not come back; "
                "check the rights of the server's account (edge-fleet broker accounts)"
            )

    def delivers(self, timeout_s: float) -> bool:
        """Whether a message to ourselves comes back in time."""
        self._probe_seen.clear()
        self._probe_nonce = secrets.token_bytes(16)
        return self.publish(self._probe, self._probe_nonce) and self._probe_seen.wait(timeout_s)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send now or not at all; False when there is no connection. Nothing waits in memory."""
        if not self.is_up:
            return False
        return bool(self._client.publish(topic, payload, qos=0).rc == MQTTErrorCode.MQTT_ERR_SUCCESS)

    def stop(self) -> None:
        """Disconnect for good."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            self._answered.set()
            return
        filters = [(subscription(self._fleet, channel), 0) for channel in FROM_DEVICE]
        client.subscribe([*filters, (self._probe, 0)])

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._refusal = "it cannot be reached"

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Any, _props: Any) -> None:
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            self._refusal = "a subscription to the devices' topics is refused"
            log.error("broker refuses our subscriptions", extra={"fleet": self._fleet})
            self._answered.set()
            return
        self._granted.set()
        self._answered.set()
        log.info("broker link up")
        self._connected()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        self._granted.clear()
        log.warning("broker link down", extra={"reason": str(reason)})

    def _take(self, messages: Sequence[Message]) -> None:
        probes = [payload for topic, payload in messages if topic == self._probe]
        if self._probe_nonce in probes:
            self._probe_seen.set()
        self._received([one for one in messages if one[0] != self._probe] if probes else messages)
