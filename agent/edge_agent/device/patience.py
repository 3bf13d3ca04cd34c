"""What a server may make of a connection: not too slow, and not more around its answer than is in it.

A time limit of silence is kept by one byte a second, also before the answer begins (a head, the length of a
chunk) or after it has ended (what follows the last chunk); and neither "100 Continue" nor lines after the
last chunk are bounded by `http.client`. So every byte that arrives is counted here, below it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from http.client import HTTPConnection, HTTPSConnection
from socket import socket
from time import monotonic
from typing import Any, Literal, cast

SLOW_S, SLOW_BYTES = 60.0, 4096  # a server that sends less in such a time is as good as gone
HEAD_BYTES = 64 << 10  # of a head, with what proxies add to it
FRAMING = 8  # a part so large of the answer may be framing: chunks of 100 bytes have less


class OutOfPatience(OSError):
    """The server has sent too little, or too much."""


class Patience:
    """Of one answer.

    Args:
        answer_bytes: How large it may be without its head.
        clock: Monotonic seconds.

    Attributes:
        count: Bytes that have come.
    """

    def __init__(self, answer_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        """Begin to count."""
        self._most = HEAD_BYTES + answer_bytes + answer_bytes // FRAMING
        self._clock = clock
        self._since_s: float | None = None
        self._since_count = self.count = 0

    def waits(self) -> None:
        """Something is waited for; what was sent before that may have taken long."""
        if self._since_s is None:
            self._since_s = self._clock()

    def came(self, count: int) -> None:
        """So many bytes more.

        Raises:
            OutOfPatience: As said above.
        """
        self.count += count
        if self.count > self._most:
            raise OutOfPatience(f"it sent {self.count} bytes for an answer of {self._most} at most")
        now_s = self._clock()
        if self._since_s is None or now_s - self._since_s < SLOW_S:
            return
        if self.count - self._since_count < SLOW_BYTES:
            came, took_s = self.count - self._since_count, now_s - self._since_s
            raise OutOfPatience(f"the server sent {came} bytes in {took_s:.0f} s")
        self._since_s, self._since_count = now_s, self.count


class _Counted(io.RawIOBase):
    """What a socket receives."""

    def __init__(self, raw: io.RawIOBase, patience: Patience) -> None:
        self._raw, self._patience = raw, patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._patience.waits()
        count = cast("int | None", self._raw.readinto(buffer))
        self._patience.came(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Watched:
    """A socket, as `http.client` uses it."""

    def __init__(self, plain: socket, patience: Patience) -> None:
        self._plain, self._patience = plain, patience

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        raw = cast("io.RawIOBase", self._plain.makefile(mode, buffering=0))
        return io.BufferedReader(_Counted(raw, self._patience))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


class PatientHTTP(HTTPConnection):
    """A connection that counts."""

    def __init__(self, *arguments: Any, patience: Patience, **more: Any) -> None:
        """Take the parts."""
        super().__init__(*arguments, **more)
        self._patience = patience

    def connect(self) -> None:
        """Connect, and count from now on."""
        super().connect()
        self.sock = cast("socket", _Watched(self.sock, self._patience))


class PatientHTTPS(HTTPSConnection):
    """The same by TLS; its handshake has a time limit of its own."""

    def __init__(self, *arguments: Any, patience: Patience, **more: Any) -> None:
        """Take the parts."""
        super().__init__(*arguments, **more)
        self._patience = patience

    def connect(self) -> None:
        """Connect, and count from now on."""
        super().connect()
        self.sock = cast("socket", _Watched(self.sock, self._patience))
