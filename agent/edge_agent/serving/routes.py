"""What is served at which path, whoever carries the bytes: a table, and the refusals in HTTP's numbers.

A route is a method, a path and a function; another package's routes go into the same table. Who may ask
is decided here, before a body is read. Sockets are `listener.py`'s, the protocol's bytes `protocol.py`'s.
"""

from __future__ import annotations

import hmac
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from edge_agent.errors import AgentError, CallRefused, no_memory
from edge_agent.inference.request import Caller
from edge_agent.serving.protocol import write_error
from edge_agent.serving.wire import Head

JSON = "application/json"
STATUS = {  # of refusals by code; a code that is absent is a fault of the model's: 500
    "names": 400,
    "shape": 400,
    "dtype": 400,
    "not-finite": 400,
    "out-of-range": 400,
    "constant": 400,
    "stuck": 400,
    "schema": 400,
    "damaged": 400,
    "picture-mode": 400,
    "sound-format": 400,
    "sound-rate": 400,
    "sound-length": 400,
    "column": 400,
    "loses-runtime": 400,
    "media-type": 415,
    "too-large": 413,
    "bad-label": 400,
    "unknown-request": 404,
    "queue-full": 503,
    "no-model": 503,
    "no-memory": 503,
    "runtime-lost": 503,  # its process is being started again
    "rate-limited": 429,
    "deadline": 504,
}
# what Retry-After tells
RETRY_S = {"queue-full": 1, "rate-limited": 1, "no-memory": 5, "no-model": 5, "runtime-lost": 5}


@dataclass(frozen=True, eq=False)
class Asked:
    """A request that may be answered.

    Args:
        names: What the path's {braces} matched.
        body: As sent, already unpacked.
        caller: Who asks, for turns and rates.
    """

    head: Head
    names: Mapping[str, str]
    body: memoryview
    caller: Caller


@dataclass(frozen=True)
class Response:
    """What is answered."""

    content: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


@dataclass(frozen=True)
class Route:
    """One thing that is served.

    Args:
        path: Such as "/v2/models/{model}/infer"; a {name} matches one level.
        open: Whether it is answered without the token.
        operation: What OpenAPI says of it; see `openapi.operation`.
    """

    method: str
    path: str
    answer: Callable[[Asked], Response]
    open: bool = False
    operation: Mapping[str, Any] = field(default_factory=dict)


class Routes:
    """The table.

    Args:
        token: What a client must show; None where the socket's own permissions decide.
        body_bytes: Limit of an unpacked body.
    """

    def __init__(self, routes: Sequence[Route], token: str | None, body_bytes: int) -> None:
        """Make the patterns."""
        self.table = tuple(routes)
        self._token = None if token is None else f"Bearer {token}".encode()
        self._body_bytes = body_bytes
        self._patterns: dict[str, tuple[re.Pattern[str], dict[str, Route]]] = {}
        for route in routes:
            pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path)))
            self._patterns.setdefault(route.path, (pattern, {}))[1][route.method] = route

    def find(self, head: Head) -> tuple[Route, Mapping[str, str]]:
        """The route of a request whose body has not been read.

        Raises:
            CallRefused: There is none (404), with another method (405), or the token is wrong (401).
        """
        for pattern, methods in self._patterns.values():
            match = pattern.fullmatch(head.path)
            if match is None:
                continue
            route = methods.get(head.method)
            if route is None:
                allow = ", ".join(methods)
                raise CallRefused(405, "method", f"{head.path!r:.200} takes {allow}", allow)
            if not route.open:
                self._admit(head)
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
        raise CallRefused(404, "not-found", f"nothing is served at {head.path!r:.200}; see /v2")

    def answer(
        self, route: Route, head: Head, names: Mapping[str, str], body: memoryview, caller: Caller
    ) -> Response:
        """Answer a request that `find` has let in; every refusal of ours is a response too."""
        try:
            encoding = head.headers.get("content-encoding", "identity").strip().lower()
            if encoding != "identity":
                body = unpack(body, encoding, self._body_bytes)
            return route.answer(Asked(head, names, body, caller))
        except AgentError as error:
            return refusal(error)
        except MemoryError:
            return refusal(no_memory())

    def _admit(self, head: Head) -> None:
        if self._token is None:
            return
        shown = head.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(shown, self._token):
            found = "another token was shown" if shown else "none was shown"
            raise CallRefused(401, "unauthorized", f"a bearer token is needed, {found}")


def refusal(error: AgentError) -> Response:
    """An error as a response."""
    status = error.status if isinstance(error, CallRefused) else STATUS.get(error.code, 500)
    headers = {}
    if error.code in RETRY_S:
        headers["Retry-After"] = str(RETRY_S[error.code])
    if isinstance(error, CallRefused) and error.allow:
        headers["Allow"] = error.allow
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="edge-agent"'
    return Response(write_error(error.code, str(error)), status, headers)


def unpack(body: memoryview, encoding: str, limit: int) -> memoryview:
    """A compressed body.

    Raises:
        CallRefused: Another encoding, damaged, or larger than the limit when unpacked.
    """
    if encoding not in ("gzip", "deflate"):
        raise CallRefused(415, "encoding", f"content encoding {encoding!r:.40} is not offered: gzip, deflate")
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise CallRefused(400, "bad-request", f"the body is not {encoding}: {error}") from None
    if len(content) > limit:
        raise CallRefused(413, "too-large", f"the body has more than {limit} bytes when unpacked")
    if not stream.eof or stream.unused_data:
        raise CallRefused(400, "bad-request", f"the body is not one whole {encoding} stream")
    return memoryview(bytearray(content))
