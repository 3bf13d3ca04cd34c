"""The server's settings: what `HOME/config.json` holds and what the command line may override."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge_contracts.errors import ContractError
from edge_contracts.model import canonical_json
from edge_fleet.errors import HomeInvalid, RequestInvalid
from edge_fleet.model import Frozen, Identifier, parse_json

FORMAT = "edgefleet.server/1"
DEFAULT_HTTP = "127.0.0.1:8080"
DEFAULT_MQTT = "127.0.0.1:1883"


class ServerConfig(Frozen):
    """How one server runs.

    Args:
        fleet: Name of the fleet, a level of every topic; devices keep it for life.
        http: Where the API and the console listen, HOST:PORT.
        mqtt: Where a managed broker listens for devices, HOST:PORT.
        mqtt_public: Where devices find the broker when that is not where the server does, HOST:PORT.
        broker: "nats", "mosquitto", or the mqtt:// URL of a broker that somebody else runs.
        broker_files: Folder shared with a mosquitto at a URL, which reads accounts and certificates there.
        database: SQLAlchemy URL, or "" for HOME/fleet.db.
        keep_raw: Age at which windows and envelopes are deleted, such as "30d"; "" keeps them for ever.
        verified: Whether verified telemetry is published again as JSON: "on" or "off".
        tls_cert, tls_key: PEM files of the device port, or "" for plain MQTT.
        tls_ca: PEM file of the CA that devices check the port with; "" means tls_cert itself.
        client_certificates: Whether the device port asks for a certificate of our own authority.
        oidc: File that says how people log in at an identity provider; "" for by password alone.
        tls_hosts: Further names and addresses of the device port in the certificate that we make for it.
        https: Whether the API and the console speak TLS with a certificate of our own authority.
        http_cert, http_key: PEM files with which they speak TLS instead.
    """

    format: Literal["edgefleet.server/1"] = "edgefleet.server/1"
    fleet: Identifier = "main"
    http: str = DEFAULT_HTTP
    mqtt: str = DEFAULT_MQTT
    mqtt_public: str = ""
    broker: str = Field(default="nats", pattern=r"^(nats|mosquitto|mqtts?://.+)$")
    broker_files: str = ""
    database: str = ""
    keep_raw: str = Field(default="", pattern=r"^([1-9][0-9]{0,5}[hdw])?$")
    verified: Literal["on", "off"] = "on"
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    client_certificates: bool = False
    oidc: str = ""
    tls_hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")], ...] = ()
    https: bool = False
    http_cert: str = ""
    http_key: str = ""


def read_config(path: Path) -> ServerConfig:
    """Read a settings file.

    Raises:
        HomeInvalid: It cannot be read, or has a fault.
    """
    try:
        return parse_json(ServerConfig, path.read_bytes(), str(path), FORMAT)
    except OSError as error:
        raise HomeInvalid(f"cannot read {path}: {error.strerror}; make a home with edge-fleet init") from None
    except ContractError as error:
        raise HomeInvalid(str(error)) from None


def config_bytes(config: ServerConfig) -> bytes:
    """What a settings file holds."""
    return canonical_json(config)


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on or to connect to."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def reachable_host(self) -> str:
        """The host by which this machine reaches it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def __str__(self) -> str:
        """HOST:PORT, with brackets around IPv6."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, what: str) -> Address:
    """HOST:PORT, [IPV6]:PORT; port 0 lets the system choose.

    Raises:
        RequestInvalid: It is not that.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise RequestInvalid(f"{what} {text!r:.100} is not HOST:PORT, such as 127.0.0.1:8080")
    return Address(host, int(port))
