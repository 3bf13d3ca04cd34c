"""TLS for the daemon's own HTTP port: one certificate and its key, taken anew when the files change.

TLS 1.2 or later (RFC 8996), HTTP/1.1 only. A renewal writes two files, one after the other: until they
belong together the pair before goes on, and a connection that is open keeps the certificate that it began
with. Which files are served is noted in the home, so that `edge-agent doctor` can look at them.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
from pathlib import Path
from typing import Literal

from edge_agent.device.home import Home, discard, write_durably
from edge_agent.errors import HomeInvalid, ListenRefused
from edge_contracts.errors import ContractError
from edge_contracts.model import Frozen, canonical_json, parse_json

log = logging.getLogger(__name__)

FORMAT = "edgefleet.serve-tls/1"
Stamp = tuple[tuple[int, int, int], ...]


class ServedFiles(Frozen):
    """The files that the daemon serves HTTP with.

    Args:
        cert, key: Paths, absolute.
    """

    format: Literal["edgefleet.serve-tls/1"] = "edgefleet.serve-tls/1"
    cert: str
    key: str


class Tls:
    """The server's end of TLS. Any thread may use it.

    Args:
        cert: PEM of the certificate, and behind it those up to its CA.
        key: PEM of its private key, not encrypted; may be the same file.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        """Read both.

        Raises:
            ListenRefused: They cannot be read, do not belong together, or anybody may read the key.
        """
        self._cert, self._key = cert, key
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._context = open_context(cert, key)

    def wrap(self, sock: socket.socket) -> socket.socket:
        """A connection as TLS, with whatever certificate counts now; the handshake comes with `shake`."""
        with self._lock:
            seen = self._stamp()
            if seen != self._seen:
                self._seen = seen
                self._renew()
            context = self._context
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def shake(self, sock: socket.socket, timeout_s: float) -> None:
        """The handshake, in the connection's own thread: a client that is slow holds up nobody else.

        Raises:
            OSError: There was none.
        """
        if not isinstance(sock, ssl.SSLSocket):
            raise AssertionError("only a wrapped connection shakes hands")
        sock.settimeout(timeout_s)
        sock.do_handshake()

    def _renew(self) -> None:
        try:
            self._context = open_context(self._cert, self._key)
        except ListenRefused as error:
            log.warning("certificate not renewed, the one before goes on", extra={"reason": str(error)})
        else:
            log.info("certificate renewed", extra={"file": str(self._cert)})

    def _stamp(self) -> Stamp:
        """Changes when one of the files does."""
        found = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return tuple(found)


def open_context(cert: Path, key: Path) -> ssl.SSLContext:
    """The settings of a server with that certificate.

    Raises:
        ListenRefused: As Tls.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])

    def encrypted() -> str:
        raise ListenRefused(
            f"{key} is encrypted; a device has nobody to ask: openssl pkey -in {key} -out NEW"
        )

    try:
        mode = stat.S_IMODE(key.stat().st_mode)
        if mode & stat.S_IRWXO:
            raise ListenRefused(f"{key} has mode {mode:04o}, everybody can read it: chmod 600 {key}")
        context.load_cert_chain(cert, key, encrypted)
    except ssl.SSLError as error:
        raise ListenRefused(
            f"{cert} and {key} are no certificate with its key, in PEM: {error.reason or error}"
        ) from None
    except OSError as error:
        raise ListenRefused(f"cannot read {error.filename or f'{cert} or {key}'}: {error.strerror}") from None
    return context


def note_served(home: Home, cert: Path | None, key: Path | None) -> None:
    """Note which files are served with, or that none are; a disk that takes no note stops nothing."""
    if cert is None or key is None:
        discard(home.serve_tls)
        return
    served = ServedFiles(cert=os.path.abspath(cert), key=os.path.abspath(key))
    if read_served(home) == served:
        return
    try:
        write_durably(home.serve_tls, canonical_json(served))
    except HomeInvalid as error:  # doctor looks at the files of before, or at none
        log.warning("served certificate not noted", extra={"reason": str(error)})


def read_served(home: Home) -> ServedFiles | None:
    """Which files are served with; None for none."""
    try:
        return parse_json(ServedFiles, home.serve_tls.read_bytes(), home.serve_tls.name, FORMAT)
    except (OSError, ContractError):
        return None
