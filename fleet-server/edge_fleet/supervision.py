"""What a service manager is told: ready, stopping, and that the server still works (sd_notify(3)).

Without a manager ($NOTIFY_SOCKET) nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Supervisor:
    """The socket of a service manager; says nothing where there is none.

    Args:
        environment: Where systemd leaves NOTIFY_SOCKET and WATCHDOG_USEC.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read the environment."""
        self._place = environment.get("NOTIFY_SOCKET", "")
        watched_us = environment.get("WATCHDOG_USEC", "")
        own = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        # sd_watchdog_enabled(3): at half the time
        self._every_s = int(watched_us) / 2e6 if watched_us.isdigit() and own else None
        self._next = 0.0

    def ready(self, status: str) -> None:
        """It serves."""
        self._say(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """It was told to stop, and does."""
        self._say("STOPPING=1\nSTATUS=finishing what is under way")

    def alive(self) -> None:
        """A sign of life, when one is due; cheap enough to be called all the time."""
        if self._every_s is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            self._say("WATCHDOG=1")

    def _say(self, message: str) -> None:
        if not self._place:
            return
        # a name that begins with @ is an abstract one
        address = "\0" + self._place[1:] if self._place.startswith("@") else self._place
        # a manager that is away, or does not listen, is no reason to stop serving
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as stream, suppress(OSError):
            stream.sendto(message.encode(), address)
