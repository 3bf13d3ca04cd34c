"""Devices' certificates as rows: issuing, issuing again before they expire, and the list of revoked ones."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, insert, select

from edge_fleet.access.authority import DEVICE_DAYS, RENEW_SHARE, Authority, open_authority
from edge_fleet.audit import record
from edge_fleet.brokers.base import DeviceTls
from edge_fleet.brokers.choose import device_tls
from edge_fleet.config import ServerConfig, parse_address
from edge_fleet.home import Home
from edge_fleet.keys import write_secret
from edge_fleet.schema import certificates, devices

DAY_MS = 86_400_000
_RESERVE_MS = round(DEVICE_DAYS * (1 - RENEW_SHARE)) * DAY_MS


def current(connection: Connection, authority: Authority, device: str, now_ms: int) -> tuple[str, int]:
    """A device's certificate, and when it should ask again; a new one when the last is near its end.

    Asking often makes no more of them. The device is in the fleet: the caller has seen to that.
    """
    last = connection.execute(
        select(certificates.c.pem, certificates.c.expires_ms)
        .where(certificates.c.device == device)
        .order_by(certificates.c.expires_ms.desc())
        .limit(1)
    ).first()
    if last is not None and now_ms < last.expires_ms - _RESERVE_MS:
        return last.pem, last.expires_ms - _RESERVE_MS
    key = connection.execute(select(devices.c.public_key).where(devices.c.id == device)).scalar_one()
    issued = authority.certify_device(device, key, now_ms)
    connection.execute(
        insert(certificates).values(
            serial=issued.serial,
            device=device,
            pem=issued.pem,
            issued_ms=now_ms,
            expires_ms=issued.expires_ms,
        )
    )
    record(connection, f"device/{device}", "certificate issued", device, now_ms, serial=issued.serial)
    return issued.pem, issued.expires_ms - _RESERVE_MS


def revoked(connection: Connection, now_ms: int) -> list[str]:
    """Serials of certificates of devices that were put out of the fleet; expired ones are refused anyway."""
    query = (
        select(certificates.c.serial)
        .join(devices, devices.c.id == certificates.c.device)
        .where(devices.c.revoked_ms.is_not(None), certificates.c.expires_ms > now_ms)
        .order_by(certificates.c.serial)
    )
    return list(connection.execute(query).scalars())


def broker_tls(config: ServerConfig, home: Home, now_ms: int) -> tuple[DeviceTls | None, Authority | None]:
    """The TLS of the device port; of our own authority where client certificates are asked for.

    Raises:
        RequestInvalid: See `brokers.choose.device_tls`.
        HomeInvalid: The authority's files are damaged.
    """
    given = device_tls(config)
    if not config.client_certificates:
        return given, None
    authority = open_authority(home.keys, config.fleet, now_ms)
    folder = home.broker.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours, crl = folder / "client-ca.pem", folder / "revoked.pem"
    write_secret(ours, authority.pem.encode())
    write_secret(crl, authority.revocations([], now_ms))
    if given is None:
        hosts = ["localhost", "127.0.0.1", socket.gethostname(), *config.tls_hosts]
        hosts.append(parse_address(config.mqtt, "--mqtt").reachable_host)
        certificate, key = authority.certify_server(list(dict.fromkeys(hosts)), now_ms)
        cert_path, key_path = folder / "server.pem", folder / "server.key"
        write_secret(cert_path, certificate.encode())
        write_secret(key_path, key)
        given = DeviceTls(str(cert_path), str(key_path), authority.pem)
    return replace(given, client_ca=str(ours), crl=str(crl)), authority


def write_revocations(path: Path, authority: Authority, serials: list[str], now_ms: int) -> None:
    """Write the list for the broker, all or nothing."""
    write_secret(path, authority.revocations(serials, now_ms))
