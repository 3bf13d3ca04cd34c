"""Which broker a setting names, checked before anything is started."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from edge_fleet.brokers.base import Broker, DeviceTls
from edge_fleet.brokers.external import parse_url
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import ServerConfig, parse_address
from edge_fleet.errors import RequestInvalid

_MANAGED: dict[str, Callable[..., Broker]] = {"nats": NatsBroker, "mosquitto": MosquittoBroker}


def is_managed(config: ServerConfig) -> bool:
    """Whether the server runs the broker itself."""
    return config.broker in _MANAGED


def choose_broker(
    config: ServerConfig, folder: Path, exited: Callable[[], None], tls: DeviceTls | None = None
) -> Broker:
    """Make the broker that the settings name; it is not started.

    Args:
        folder: For the files of a managed one.
        exited: Called when a managed one ended without being asked to.
        tls: Of the device port, instead of what the settings say.

    Raises:
        RequestInvalid: A name, address or TLS file that cannot be used.
    """
    if not is_managed(config):
        device_tls(config)
        return parse_url(config.broker)
    listen = parse_address(config.mqtt, "--mqtt")
    return _MANAGED[config.broker](folder.absolute(), listen, tls or device_tls(config), exited)


def device_tls(config: ServerConfig) -> DeviceTls | None:
    """The TLS files of the device port; None for plain MQTT.

    Raises:
        RequestInvalid: One of two is missing, they are not a certificate and its key, or client certificates
            are asked for of a broker that has no list of revoked ones.
    """
    if config.client_certificates and config.broker != "mosquitto":
        raise RequestInvalid(
            f"--client-certificates need --broker mosquitto, found {config.broker!r:.80}: "
            "nats-server has no list of revoked ones"
        )
    if not config.tls_cert and not config.tls_key:
        return None
    if not (config.tls_cert and config.tls_key):
        raise RequestInvalid("TLS needs both --tls-cert and --tls-key")
    paths = [str(Path(p).absolute()) for p in (config.tls_cert, config.tls_key)]
    authority = Path(config.tls_ca or config.tls_cert)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
        ca = authority.read_text()
    except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
        raise RequestInvalid(
            f"cannot use {config.tls_cert} and {config.tls_key}: {error.strerror or error}"
            if isinstance(error, OSError)
            else f"cannot read {authority} as PEM"
        ) from None
    return DeviceTls(paths[0], paths[1], ca)
