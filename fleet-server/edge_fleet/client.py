"""The command line's way to a server: HTTP with a token, and one-line errors."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from edge_contracts.errors import one_line
from edge_fleet.errors import FleetError, NotFound, ServerUnreachable, Unauthorized
from edge_fleet.home import Home, find_ca, find_running

TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 600.0


class Refused(FleetError):
    """The server said no; the message is its own."""


class Client:
    """A server's API."""

    def __init__(self, url: str, token: str, ca: str = "") -> None:
        """Take an address and an API token.

        Args:
            ca: PEM file that an https server is checked with; "" means the system's authorities.
        """
        self._url = url.rstrip("/")
        try:
            parsed = httpx.URL(self._url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ServerUnreachable(f"--server {url!r:.100} is not a URL such as http://127.0.0.1:8080")
        self._http = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=TIMEOUT_S,
            trust_env=not _is_loopback(parsed.host),  # a proxy does not reach this machine's own server
            verify=_checking(ca) if ca and parsed.scheme == "https" else True,
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of a POST."""
        return self._call("POST", path, json=dict(body or {}))

    def upload(self, path: str, field: str, files: list[Path]) -> Any:
        """The JSON of a POST of files.

        Raises:
            NotFound: A file cannot be read.
        """
        with ExitStack() as stack:
            parts = []
            for file in files:
                try:
                    stream = stack.enter_context(file.open("rb"))
                except OSError as error:
                    raise NotFound(f"cannot read {file}: {error.strerror}") from None
                parts.append((field, (file.name, stream, "application/octet-stream")))
            return self._call("POST", path, files=parts, timeout=UPLOAD_TIMEOUT_S)

    def download(self, path: str, **query: Any) -> httpx.Response:
        """The answer to a GET that gives bytes."""
        try:
            answer = self._http.request("GET", path, params=query, timeout=UPLOAD_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            self._refuse(answer)
        return answer

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """The lines of a stream, until the server ends it."""
        with self._streaming(path, query) as answer:
            yield from answer.iter_lines()

    def pieces(self, path: str, **query: Any) -> Iterator[bytes]:
        """The bytes of a long answer as they come."""
        with self._streaming(path, query) as answer:
            yield from answer.iter_bytes()

    @contextmanager
    def _streaming(self, path: str, query: Mapping[str, Any]) -> Iterator[httpx.Response]:
        wanted = {name: value for name, value in query.items() if value is not None}
        try:
            forever = httpx.Timeout(TIMEOUT_S, read=None)
            with self._http.stream("GET", path, params=wanted, timeout=forever) as answer:
                if answer.is_error:
                    answer.read()
                    self._refuse(answer)
                yield answer
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            self._refuse(answer)
        try:
            return answer.json()
        except ValueError:
            raise ServerUnreachable(f"{self._url} answers, but is not an edge-fleet server") from None

    def _refuse(self, answer: httpx.Response) -> None:
        try:
            body = json.loads(answer.content)
            message = str(body["message"])
        except (ValueError, KeyError, TypeError):
            raise ServerUnreachable(
                f"{self._url} answers {answer.status_code}, but is not an edge-fleet server"
            ) from None
        if answer.status_code == 503:  # it may well do in a moment what it cannot do now
            raise ServerUnreachable(message)
        raise Unauthorized(message) if answer.status_code == 401 else Refused(message)

    def _unreachable(self, error: httpx.HTTPError) -> ServerUnreachable:
        reason = one_line(error)
        return ServerUnreachable(f"no server at {self._url}: {reason}")


def find_server(home: Home, url: str | None, token: str | None) -> Client:
    """The server that the command line means: the stated one, else the one that runs with this home.

    Raises:
        ServerUnreachable: None runs with this home.
        Unauthorized: There is no token for it.
    """
    ca = os.environ.get("EDGE_FLEET_CA", "")
    if url is None:
        url = find_running(home)
        if url is None:
            raise ServerUnreachable(
                f"no server runs with the home {home.root}; start one with edge-fleet serve, "
                "or name one with --server URL --token T"
            )
        ca = ca or find_ca(home)
        if token is None:
            try:
                token = home.admin_token.read_text().strip()
            except OSError as error:
                raise Unauthorized(
                    f"cannot read {home.admin_token}: {error.strerror}; give --token"
                ) from None
    if token is None:
        raise Unauthorized("--server needs --token T (or $EDGE_FLEET_TOKEN)")
    return Client(url, token, ca)


def _checking(ca: str) -> ssl.SSLContext:
    """What a server is checked with; the file may hold the server's own certificate, too."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        raise ServerUnreachable(f"cannot use {ca}: {error.strerror or error}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
