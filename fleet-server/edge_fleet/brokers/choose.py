"""Which broker a setting names, checked before anything is started."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_fleet.brokers.account_files import AccountFiles
from edge_fleet.brokers.base import Broker, DeviceTls
from edge_fleet.brokers.external import parse_url
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import Address, ServerConfig, parse_address
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
    if config.mqtt_public:
        parse_address(config.mqtt_public, "--mqtt-public")
    if not is_managed(config):
        files = None
        if config.broker_files:
            files = AccountFiles(Path(config.broker_files).absolute(), not config.client_certificates)
        known = tls or device_tls(config)
        ca = known.ca if known else _text_of(config.tls_ca) if config.tls_ca else ""
        return replace(parse_url(config.broker), files=files, ca=ca)
    if config.broker_files:
        raise RequestInvalid(
            f"--broker-files go with --broker mqtts://HOST:PORT; {config.broker} keeps its own in the home"
        )
    listen = parse_address(config.mqtt, "--mqtt")
    return _MANAGED[config.broker](folder.absolute(), listen, tls or device_tls(config), exited)


def device_door(config: ServerConfig) -> Address:
    """Where devices connect, as far as the server knows it."""
    if config.mqtt_public:
        return parse_address(config.mqtt_public, "--mqtt-public")
    return parse_address(config.mqtt, "--mqtt") if is_managed(config) else parse_url(config.broker).address


def device_tls(config: ServerConfig) -> DeviceTls | None:
    """The TLS files of the device port; None for plain MQTT.

    Raises:
        RequestInvalid: One of two is missing, they are not a certificate and its key, or client certificates
            are asked for of a broker that reads nothing of ours.
    """
    if config.client_certificates and not is_managed(config) and not config.broker_files:
        raise RequestInvalid(
            "--client-certificates with a broker by URL need --broker-files: the folder where it reads them"
        )
    if not config.tls_cert and not config.tls_key:
        return None
    if not (config.tls_cert and config.tls_key):
        raise RequestInvalid("TLS needs both --tls-cert and --tls-key")
    paths = [str(Path(p).absolute()) for p in (config.tls_cert, config.tls_key)]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*paths)
    except OSError as error:  # ssl.SSLError is one
        raise RequestInvalid(
            f"cannot use {config.tls_cert} and {config.tls_key}: {error.strerror or error}"
        ) from None
    return DeviceTls(paths[0], paths[1], _text_of(config.tls_ca or config.tls_cert))


def _text_of(path: str) -> str:
    """A PEM file that somebody is checked with."""
    try:
        text = Path(path).read_text()
        ssl.create_default_context(cadata=text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not PEM"
        raise RequestInvalid(f"cannot use {path}: {reason}") from None
    return text
