"""A connection to a broker by TLS that may be refused, and remembers what it is given."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

from fleet_device import eventually, mqtt_client


class TlsSession:
    """One connection; `got` are topics that something came from."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext,
        filters: Sequence[str],
        user: str | None,
        password: str | None = None,
    ) -> None:
        self.got: list[str] = []
        self.granted = self.down = False
        self.client = mqtt_client(user, password)
        self.client.tls_set_context(context)
        self.client.on_connect = lambda client, *_: client.subscribe([(f, 0) for f in filters])
        self.client.on_subscribe = self._subscribed
        self.client.on_disconnect = self._ended
        self.client.on_message = lambda _client, _data, message: self.got.append(message.topic)
        try:
            self.client.connect("localhost", port)
            self.client.loop_start()
        except OSError:
            self.down = True

    def _subscribed(self, *_: Any) -> None:
        self.granted = True

    def _ended(self, *_: Any) -> None:
        self.down = True

    def comes_in(self) -> bool:
        """Whether the broker has accepted it, once that is decided."""
        eventually(lambda: self.granted or self.down, "a decision of the broker")
        return self.granted

    def __enter__(self) -> TlsSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
