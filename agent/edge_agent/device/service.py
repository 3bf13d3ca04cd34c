"""What a service manager is told: ready, alive, stopping. Does nothing where there is none.

The protocol is that of sd_notify(3): a datagram of `KEY=VALUE` lines to the socket in $NOTIFY_SOCKET,
and a sign of life within every $WATCHDOG_USEC. systemd ends a service that gives none and starts it
again, which is what takes a device back from a model that hangs while on trial.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
WATCHDOG = "WATCHDOG_USEC"
WATCHDOG_PID = "WATCHDOG_PID"
BEATS = 3  # signs of life in a watchdog interval: one may be late, and one more


@dataclass
class Service:
    """A line to the service manager.

    Args:
        address: Of the manager's socket; "" where there is no manager.
        interval_s: Between two signs of life; None when the manager watches nothing.
    """

    address: str = ""
    interval_s: float | None = None
    _next_s: float = field(default=0.0, init=False)
    _said: str = field(default="", init=False)

    @staticmethod
    def of(environment: Mapping[str, str], pid: int) -> Service:
        """What the environment says; a watchdog that is meant for another process is not ours."""
        address = environment.get(SOCKET, "")
        if not address.startswith(("/", "@")):
            return Service()
        micros, owner = environment.get(WATCHDOG, ""), environment.get(WATCHDOG_PID, "")
        watched = micros.isdigit() and int(micros) > 0 and owner in ("", str(pid))
        return Service(address, int(micros) / 1e6 / BEATS if watched else None)

    @staticmethod
    def here() -> Service:
        """Of this process; what it starts later does not inherit the line."""
        service = Service.of(os.environ, os.getpid())
        for name in (SOCKET, WATCHDOG, WATCHDOG_PID):
            os.environ.pop(name, None)
        return service

    def ready(self) -> None:
        """The daemon has started."""
        self._tell("READY=1")

    def alive(self, now_s: float) -> None:
        """The daemon works; said as often as the manager wants to hear it.

        Args:
            now_s: Monotonic.
        """
        if self.interval_s is not None and now_s >= self._next_s:
            self._next_s = now_s + self.interval_s
            self._tell("WATCHDOG=1")

    def says(self, status: str) -> None:
        """A line that `systemctl status` shows; sent when it changes."""
        if status != self._said:
            self._said = status
            self._tell("STATUS=" + " ".join(status.split()))

    def stopping(self) -> None:
        """The daemon ends in good order."""
        self._tell("STOPPING=1")

    def _tell(self, line: str) -> None:
        if not self.address:
            return
        # a leading @ stands for the null byte of an abstract socket
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line_out:
                line_out.sendto(line.encode(), address)
        except OSError as error:
            log.warning(
                "service manager not told", extra={"line": line, "reason": error.strerror or str(error)}
            )
