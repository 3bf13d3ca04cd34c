"""Whether the addresses of the configuration can be reached, what time they have, how long they are proved.

A connection to each, a TLS handshake where that is configured, and one request to the server. The broker
is not logged in to: a second session of this device would end the daemon's.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from edge_agent.device.config import DeviceConfig
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.http import opened
from edge_agent.errors import AgentError

CONNECT_S = 5.0
SKEW_S = 120.0  # the header counts whole seconds, and a slow link adds some; what expires counts in hours
EXPIRES_SOON_S = 21 * 86_400.0  # certificates of 90 days are renewed at 30


def examine(config: DeviceConfig) -> list[Finding]:
    """Look at the server and at the broker."""
    return [*_server(config), *_broker(config)]


def skew(own_s: float, server_s: float) -> Finding:
    """How this device's clock stands to the server's.

    Args:
        own_s, server_s: Unix seconds at the same moment.
    """
    off_s = own_s - server_s
    if abs(off_s) <= SKEW_S:
        return Finding("clock", Grade.GOOD, f"{abs(off_s):.0f} s from the server's")
    way = "ahead of" if off_s > 0 else "behind"
    return Finding(
        "clock",
        Grade.WRONG,
        f"{_span(abs(off_s))} {way} the server's",
        "start NTP (timedatectl set-ntp true), or look at the battery of the clock",
    )


def validity(
    subject: str,
    until_s: float,
    own_s: float,
    advice: str = "renew it where the server runs; after that no device reaches it",
) -> Finding:
    """How long a certificate is still good, by this device's clock."""
    left_s = until_s - own_s
    if left_s > EXPIRES_SOON_S:
        return Finding(subject, Grade.GOOD, f"certificate is good for {_span(left_s)}")
    return Finding(
        subject,
        Grade.NOTICE,
        f"certificate ends in {_span(left_s)}",
        advice,
    )


def _server(config: DeviceConfig) -> Iterator[Finding]:
    try:
        with opened(f"{config.server}/healthz", {}, ca=config.server_ca) as answer:
            date, now_s = answer.headers.get("Date"), time()
    except AgentError as error:
        advice = "inference goes on, updates wait; look at the network and the address"
        if "certificate" in str(error):
            advice = "see that the clock is right, and that enrolment was given the CA that signed it (--ca)"
        yield Finding("server", Grade.WRONG, str(error), advice)
        return
    yield Finding("server", Grade.GOOD, config.server)
    with suppress(ValueError):  # from a web server in front of it that says no date
        yield skew(now_s, parsedate_to_datetime(date or "").timestamp())
    parts = urlsplit(config.server)
    if parts.scheme == "https":
        yield from _certificate(
            "server", (parts.hostname or "", parts.port or 443), config.server_ca, parts.hostname or ""
        )


def _broker(config: DeviceConfig) -> Iterator[Finding]:
    address = (config.mqtt_host, config.mqtt_port)
    shown = f"{address[0]}:{address[1]}"
    try:
        socket.create_connection(address, CONNECT_S).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
        yield Finding(
            "broker",
            Grade.WRONG,
            f"{shown}: {reason}",
            "telemetry stays in the outbox; look at the network and at firewalls",
        )
        return
    yield Finding("broker", Grade.GOOD, f"{shown} answers")
    if config.mqtt_tls:
        yield from _certificate("broker", address, config.mqtt_ca, config.mqtt_host)


def _certificate(subject: str, address: tuple[str, int], ca: str, name: str) -> Iterator[Finding]:
    try:
        context = ssl.create_default_context(cadata=ca or None)
        with (
            socket.create_connection(address, CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            ends = str((secured.getpeercert() or {}).get("notAfter", ""))
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            subject,
            Grade.WRONG,
            f"certificate does not verify ({error.verify_message})",
            "see that the clock is right; otherwise enrol again with the CA that signed it",
        )
        return
    except OSError as error:
        yield Finding(
            subject, Grade.WRONG, f"no TLS with {address[0]}:{address[1]}: {error}", "ask its keeper"
        )
        return
    yield validity(subject, float(ssl.cert_time_to_seconds(ends)), time())


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
