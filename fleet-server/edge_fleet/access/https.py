"""TLS of the API and the console, where the server speaks it itself instead of a web server before it.

With files of the operator, or with a certificate of the fleet's own authority, made anew at every start: then
an agent checks it with `HOME/keys/authority.pem`, and so does a command line elsewhere by $EDGE_FLEET_CA.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from edge_fleet.access.authority import CERTIFICATE, open_authority
from edge_fleet.config import ServerConfig, parse_address
from edge_fleet.errors import HomeInvalid, RequestInvalid
from edge_fleet.home import Home
from edge_fleet.keys import write_secret

HTTP_CERTIFICATE, HTTP_KEY = "http.pem", "http.key"


@dataclass(frozen=True)
class HttpTls:
    """PEM files.

    Args:
        ca: What this machine's own command line checks the server with.
    """

    cert: str
    key: str
    ca: str


def http_tls(config: ServerConfig, home: Home, now_ms: int) -> HttpTls | None:
    """The TLS of the API; None for plain HTTP.

    Raises:
        RequestInvalid: One file of two is missing, or they are not a certificate and its key.
        HomeInvalid: The authority's files are damaged, or ours cannot be written.
    """
    if config.http_cert or config.http_key:
        if not (config.http_cert and config.http_key):
            raise RequestInvalid("HTTPS needs both --http-cert and --http-key")
        given = HttpTls(config.http_cert, config.http_key, config.http_cert)
    elif config.https:
        given = _own(config, home, now_ms)
    else:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(given.cert, given.key)
    except OSError as error:  # ssl.SSLError is one
        raise RequestInvalid(f"cannot use {given.cert} and {given.key}: {error.strerror or error}") from None
    return given


def _own(config: ServerConfig, home: Home, now_ms: int) -> HttpTls:
    authority = open_authority(home.keys, config.fleet, now_ms)
    listens = parse_address(config.http, "--http").reachable_host
    names = ["localhost", "127.0.0.1", socket.gethostname(), listens, *config.tls_hosts]
    certificate, key = authority.certify_server(list(dict.fromkeys(names)), now_ms)
    cert_path, key_path = home.keys / HTTP_CERTIFICATE, home.keys / HTTP_KEY
    try:
        write_secret(key_path, key)
        write_secret(cert_path, certificate.encode())
    except OSError as error:
        raise HomeInvalid(f"cannot write {error.filename}: {error.strerror}") from None
    return HttpTls(str(cert_path), str(key_path), str((home.keys / CERTIFICATE).absolute()))
