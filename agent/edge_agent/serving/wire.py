"""HTTP/1.1 on one connection: heads, bodies, limits and timeouts; what is asked is `routes.py`'s.

Heads are parsed by llhttp (`httptools`), which refuses what could be read in two ways. A body of stated
length is received into one buffer, which the arrays of the request then look into: it is never copied.
Every wait has an end: for the first byte, for the whole head, for the whole body, and for the client to
take the answer; a client that drips bytes loses its connection, not our thread.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Final

import httptools

from edge_agent.errors import CallRefused

RECEIVE = 1 << 16
END_OF_HEAD: Final = b"\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True)
class WireLimits:
    """What one connection may cost.

    Args:
        head_bytes: Of request line and headers.
        headers: How many.
        body_bytes: Of a body, as sent and as unpacked.
        idle_s: Between two requests.
        head_s: From a head's first byte to its last.
        slowest_bytes_per_s: A body may take `head_s` and a second for each of so many bytes.
        send_s: For the client to take an answer.
    """

    head_bytes: int = 16 << 10
    headers: int = 64
    body_bytes: int = 32 << 20
    idle_s: float = 60.0
    head_s: float = 10.0
    slowest_bytes_per_s: float = 64 << 10
    send_s: float = 20.0


@dataclass(frozen=True)
class Head:
    """The head of a request.

    Args:
        path: Without the query, as sent.
        headers: By name in lower case.
        length: Of the body; None when it comes in chunks.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    keep_alive: bool
    length: int | None


class Hung(Exception):
    """The client went away, or took longer than it may between two requests: nobody to answer."""


class _Parts:
    """What llhttp finds."""

    def __init__(self, limits: WireLimits) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.count = 0
        self.body = bytearray()
        self.done = False
        self._limits = limits

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count += 1
        if self.count > self._limits.headers:
            raise CallRefused(431, "too-large", f"more than {self._limits.headers} headers")
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        # two of the same are one with commas (RFC 9110, 5.2)
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_body(self, body: bytes) -> None:
        if len(self.body) + len(body) > self._limits.body_bytes:
            raise _too_large(self._limits)
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


class Wire:
    """One connection.

    Args:
        sock: Connected; this sets its timeout, and does not close it.
    """

    def __init__(self, sock: socket.socket, limits: WireLimits) -> None:
        """Take the socket; nothing is read yet."""
        self._sock, self._limits = sock, limits
        self._rest = b""  # received and not used yet
        self._parser: httptools.HttpRequestParser | None = None
        self._parts = _Parts(limits)

    def read_head(self) -> Head:
        """Wait for a request.

        Raises:
            Hung: There is none.
            CallRefused: It is not HTTP, or beyond the limits; the connection cannot go on.
        """
        content, self._rest = self._rest.lstrip(b"\r\n"), b""  # empty lines are none (RFC 9112, 2.2)
        idle_until_s = monotonic() + self._limits.idle_s
        while not content:
            if (left_s := idle_until_s - monotonic()) <= 0:
                raise Hung("nothing but empty lines came")
            content = self._receive(left_s).lstrip(b"\r\n")
        ends_s = monotonic() + self._limits.head_s
        while (end := content.find(END_OF_HEAD)) < 0:
            if len(content) > self._limits.head_bytes:
                raise self._head_too_large()
            content += self._receive(ends_s - monotonic(), "the head")
        end += len(END_OF_HEAD)
        if end > self._limits.head_bytes:
            raise self._head_too_large()
        self._rest = content[end:]
        return self._parse(content[:end])

    def read_body(self, head: Head) -> memoryview:
        """The body of the request whose head was read last.

        Raises:
            Hung: The client went away.
            CallRefused: It is too large, too slow or not what the head says; the connection cannot go on.
        """
        if head.headers.get("expect", "").lower() == "100-continue" and not self._rest:
            self.send((CONTINUE,))
        if head.length is None:
            return self._read_chunks()
        if head.length > self._limits.body_bytes:
            raise _too_large(self._limits)
        body = memoryview(bytearray(head.length))
        got = min(len(self._rest), head.length)
        body[:got] = self._rest[:got]
        self._rest = self._rest[got:]
        ends_s = monotonic() + self._limits.head_s + head.length / self._limits.slowest_bytes_per_s
        while got < head.length:
            self._wait(ends_s - monotonic(), "the body")
            try:
                count = self._sock.recv_into(body[got:])
            except TimeoutError:
                raise _too_slow("the body") from None
            except OSError as error:
                raise Hung(str(error)) from None
            if not count:
                raise Hung("the client ended within a body")
            got += count
        return body

    def send(self, parts: tuple[bytes, ...]) -> None:
        """Send an answer.

        Raises:
            Hung: The client does not take it.
        """
        try:
            self._sock.settimeout(self._limits.send_s)
            self._sock.sendall(parts[0] if len(parts) == 1 else b"".join(parts))
        except OSError as error:
            raise Hung(str(error)) from None

    def _parse(self, content: bytes) -> Head:
        parts = self._parts = _Parts(self._limits)
        parser = self._parser = httptools.HttpRequestParser(parts)
        try:
            parser.feed_data(content)
            method = parser.get_method().decode("ascii")
            version = parser.get_http_version()
        except httptools.HttpParserUpgrade:  # an offer (Java's client makes it): not taken (RFC 9110, 7.8)
            method = parser.get_method().decode("ascii")
            version = parser.get_http_version()
            if method == "CONNECT" or "transfer-encoding" in parts.headers:
                raise CallRefused(400, "bad-request", "an upgrade of the connection is not offered") from None
        except httptools.HttpParserError as error:
            raise _unwrap(error, "the head is not HTTP") from None
        if version not in ("1.1", "1.0"):
            raise CallRefused(505, "bad-request", f"HTTP {version} is not offered, take 1.1")
        chunked = "transfer-encoding" in parts.headers
        stated = parts.headers.get("content-length", "0")
        if version == "1.1" and "host" not in parts.headers:
            raise CallRefused(400, "bad-request", "the Host header is missing")
        path = parts.target.split(b"?", 1)[0].decode("latin-1")
        length = None if chunked else int(stated)  # digits: llhttp has seen to it
        # a parser reads on into the next request behind chunks: such a connection ends with its answer
        keep_alive = bool(parser.should_keep_alive()) and not chunked
        return Head(method, path, parts.headers, keep_alive, length)

    def _read_chunks(self) -> memoryview:
        parser, parts = self._parser, self._parts
        if parser is None:
            raise AssertionError("a body without a head")
        ends_s = monotonic() + self._limits.head_s
        content, self._rest = self._rest, b""
        while True:
            try:
                parser.feed_data(content)
            except httptools.HttpParserError as error:
                raise _unwrap(error, "the chunks are not HTTP") from None
            if parts.done:
                return memoryview(parts.body)
            allowed_s = len(parts.body) / self._limits.slowest_bytes_per_s
            content = self._receive(ends_s + allowed_s - monotonic(), "the body")

    def _receive(self, timeout_s: float, what: str = "") -> bytes:
        self._wait(timeout_s, what)
        try:
            content = self._sock.recv(RECEIVE)
        except TimeoutError:
            if what:
                raise _too_slow(what) from None
            raise Hung("nothing came") from None
        except OSError as error:
            raise Hung(str(error)) from None
        if not content:
            raise Hung("the client has ended")
        return content

    def _wait(self, timeout_s: float, what: str) -> None:
        if timeout_s <= 0:
            raise _too_slow(what)
        self._sock.settimeout(timeout_s)

    def _head_too_large(self) -> CallRefused:
        return CallRefused(431, "too-large", f"the head has more than {self._limits.head_bytes} bytes")


def head_of_answer(
    status: int, length: int, content_type: str, keep_alive: bool, extra: Mapping[str, str] | None = None
) -> bytes:
    """The head of an answer."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Length: {length}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
    ]
    if length:
        lines.append(f"Content-Type: {content_type}")
    lines.extend(f"{name}: {value}" for name, value in (extra or {}).items())
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _too_large(limits: WireLimits) -> CallRefused:
    return CallRefused(413, "too-large", f"the body has more than {limits.body_bytes} bytes")


def _too_slow(what: str) -> CallRefused:
    return CallRefused(408, "too-slow", f"{what} took longer than it may")


def _unwrap(error: Exception, what: str) -> CallRefused:
    """Our own refusal from within a callback, or llhttp's."""
    if isinstance(error.__context__, CallRefused):
        return error.__context__
    return CallRefused(400, "bad-request", f"{what}: {error or type(error).__name__}")
