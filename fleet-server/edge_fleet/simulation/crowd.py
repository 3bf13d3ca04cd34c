"""Many simulated devices on a real broker: one thread, one MQTT connection each."""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from edge_fleet.simulation.device import Outgoing, SimulatedDevice

log = logging.getLogger(__name__)

KEEPALIVE_S = 60
MISC_S = 5.0  # keep-alives and retries of the connections
LONGEST_WAIT_S = 0.05


class Crowd:
    """Devices that are connected together.

    Args:
        passwords: By device; its name is the user.
    """

    def __init__(
        self, devices: Iterable[SimulatedDevice], host: str, port: int, passwords: Mapping[str, str]
    ) -> None:
        """Take the devices; `start` connects them."""
        self.devices = {device.id: device for device in devices}
        self._host, self._port, self._passwords = host, port, passwords
        self._clients: dict[str, Client] = {}
        self._ready: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    @property
    def connected(self) -> int:
        """Devices that are connected, subscribed and have said hello."""
        return len(self._ready)

    def start(self) -> None:
        """Connect one after the other.

        Raises:
            OSError: The broker cannot be reached.
        """
        self._thread.start()
        for device in self.devices:
            client = self._client(device)
            client.connect(self._host, self._port, KEEPALIVE_S)
            with self._lock:
                self._clients[device] = client
                self._selector.register(client.socket(), selectors.EVENT_READ, device)

    def stop(self) -> None:
        """Disconnect all."""
        self._stopping.set()
        self._thread.join()
        for client in self._clients.values():
            client.disconnect()
        self._selector.close()

    def each(self, say: Callable[[SimulatedDevice], Outgoing | None]) -> None:
        """Let every connected device say something."""
        for name in sorted(self._ready):
            with self._lock:
                said = say(self.devices[name])
                if said is not None:
                    self._publish(name, [said])

    def _client(self, device: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"sim-{device}",
            protocol=MQTTProtocolVersion.MQTTv311,
            userdata=device,
        )
        client.username_pw_set(device, self._passwords[device])
        client.on_connect, client.on_subscribe = self._on_connect, self._on_subscribe
        client.on_message, client.on_disconnect = self._on_message, self._on_disconnect
        return client

    def _run(self) -> None:
        misc_s = time.monotonic() + MISC_S
        while not self._stopping.is_set():
            for key, _ in self._selector.select(LONGEST_WAIT_S):
                with self._lock:
                    self._clients[key.data].loop_read()
            with self._lock:
                for name, client in list(self._clients.items()):
                    said = self.devices[name].due(time.time())
                    if said:
                        self._publish(name, said)
                    while client.want_write():
                        if client.loop_write() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                            break
                if time.monotonic() >= misc_s:
                    misc_s = time.monotonic() + MISC_S
                    for client in self._clients.values():
                        client.loop_misc()

    def _publish(self, device: str, said: Iterable[Outgoing]) -> None:
        for one in said:
            self._clients[device].publish(one.topic, one.payload, qos=1)

    def _on_connect(self, client: Client, device: str, _flags: Any, reason: Any, _props: Any) -> None:
        if reason.is_failure:
            log.error("broker refuses a simulated device", extra={"device": device, "reason": str(reason)})
            return
        client.subscribe([(name, 0) for name in self.devices[device].topics])  # as the agent does

    def _on_subscribe(self, _client: Client, device: str, _mid: int, reasons: Any, _props: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error("broker refuses a subscription of a simulated device", extra={"device": device})
            return
        self._ready.add(device)
        found = self.devices[device]
        self._publish(device, [found.hello(time.time()), *found.unacknowledged()])

    def _on_message(self, _client: Client, device: str, message: MQTTMessage) -> None:
        self._publish(device, self.devices[device].take(message.topic, message.payload, time.time()))

    def _on_disconnect(self, client: Client, device: str, _flags: Any, reason: Any, _props: Any) -> None:
        self._ready.discard(device)
        if not self._stopping.is_set():
            log.warning("simulated device lost its broker", extra={"device": device, "reason": str(reason)})
            with self._lock:
                self._clients.pop(device, None)
                for key in list(self._selector.get_map().values()):
                    if key.data == device:
                        self._selector.unregister(key.fileobj)
