"""The connection to Home Assistant's broker: beside the fleet's, and of no importance to it."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.errors import SettingRefused
from edge_agent.telemetry.home_assistant import BIRTH, OFFLINE, ONLINE, Topics, discovery, state
from edge_agent.telemetry.standing import Standing

log = logging.getLogger(__name__)

KEEPALIVE_S = 60
LONGEST_PAUSE_S = 120


@dataclass(frozen=True)
class LocalBroker:
    """Where Home Assistant listens."""

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    @staticmethod
    def parse(url: str) -> LocalBroker:
        """Read `mqtt://[USER:PASSWORD@]HOST[:PORT]`, or mqtts.

        Raises:
            SettingRefused: It is not that.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            # the URL itself may hold a password
            raise SettingRefused("--home-assistant is not mqtt://[USER:PASSWORD@]HOST[:PORT]")
        tls = parts.scheme == "mqtts"
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return LocalBroker(parts.hostname, port or (8883 if tls else 1883), tls, user, password)


class HomeAssistantLink:
    """Tells Home Assistant where the device stands, whenever it is asked or something changes."""

    def __init__(self, broker: LocalBroker, node: str) -> None:
        """Describe the connection; `start` begins to keep it up."""
        self._topics, self._broker = Topics(node), broker
        self._lock = threading.Lock()
        self._standing: Standing | None = None
        self._told = b""
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"edgefleet-ha-{node}")
        if broker.user:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(ssl.create_default_context())
        client.will_set(self._topics.availability, OFFLINE, qos=1)
        client.reconnect_delay_set(1, LONGEST_PAUSE_S)
        client.max_queued_messages_set(16)  # states of an hour ago are nobody's business
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        self._client = client

    def start(self) -> None:
        """Connect, and connect again whenever it is lost."""
        self._client.connect_async(self._broker.host, self._broker.port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say that the device is gone, and disconnect."""
        if self._client.is_connected():
            self._client.publish(self._topics.availability, OFFLINE, qos=1).wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()

    def tell(self, standing: Standing) -> None:
        """Say what has changed, if anything has."""
        with self._lock:
            first, self._standing = self._standing is None, standing
            news = state(standing)
            if first and self._client.is_connected():
                self._introduce(standing)
            elif news != self._told and self._client.is_connected():
                self._client.publish(self._topics.state, news, qos=1)
                self._told = news

    def _introduce(self, standing: Standing) -> None:
        self._client.publish(self._topics.config, discovery(self._topics, standing), qos=1)
        self._client.publish(self._topics.availability, ONLINE, qos=1)
        self._told = state(standing)
        self._client.publish(self._topics.state, self._told, qos=1)

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            log.warning("home assistant's broker refuses the device", extra={"reason": str(reason)})
            return
        client.subscribe(BIRTH, 1)
        with self._lock:
            if self._standing is not None:
                self._introduce(self._standing)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._lock:
            if message.payload == ONLINE.encode() and self._standing is not None:
                self._introduce(self._standing)
