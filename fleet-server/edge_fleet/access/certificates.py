"""Certificates as rows: issuing, issuing a device's again before it expires, and the list of revoked ones."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, func, insert, or_, select

from edge_fleet.access.authority import DEVICE_DAYS, RENEW_SHARE, Authority, Issued, open_authority
from edge_fleet.audit import record
from edge_fleet.auth import NewToken
from edge_fleet.brokers.base import DeviceTls
from edge_fleet.brokers.choose import device_door, device_tls, is_managed
from edge_fleet.brokers.external import parse_url
from edge_fleet.config import ServerConfig
from edge_fleet.errors import HomeInvalid
from edge_fleet.home import Home
from edge_fleet.keys import write_secret
from edge_fleet.schema import certificates, device_keys, devices, subscriber_certificates, tokens

DAY_MS = 86_400_000
SERVER_CERTIFICATE, SERVER_KEY = "server.pem", "server.key"
_RESERVE_MS = round(DEVICE_DAYS * (1 - RENEW_SHARE)) * DAY_MS


@dataclass(frozen=True)
class Held:
    """The certificate that a device should show.

    Args:
        renew_ms: When it should ask again.
        is_new: Whether it was made just now, so that the broker may not know it yet.
    """

    serial: str
    pem: str
    renew_ms: int
    is_new: bool


def current(connection: Connection, authority: Authority, device: str, now_ms: int) -> Held:
    """A device's certificate; a new one when the last is near its end.

    Asking often makes no more of them. The device is in the fleet: the caller has seen to that.
    """
    since_ms = select(func.coalesce(devices.c.key_since_ms, 0)).where(devices.c.id == device)
    last = connection.execute(
        select(certificates.c.serial, certificates.c.pem, certificates.c.expires_ms)
        # one that was made for a key of before is not for the one that counts
        .where(certificates.c.device == device, certificates.c.issued_ms >= since_ms.scalar_subquery())
        .order_by(certificates.c.expires_ms.desc())
        .limit(1)
    ).first()
    if last is not None and now_ms < last.expires_ms - _RESERVE_MS:
        return Held(last.serial, last.pem, last.expires_ms - _RESERVE_MS, False)
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
    return Held(issued.serial, issued.pem, issued.expires_ms - _RESERVE_MS, True)


def certify_subscriber(
    connection: Connection,
    authority: Authority,
    token: NewToken,
    user: str,
    request: str,
    actor: str,
    now_ms: int,
) -> Issued:
    """A certificate for the key of a subscriber's request, for as long as its token.

    Args:
        token: Just made in the same transaction, with an end.
        request: RFC 2986, PEM.

    Raises:
        RequestInvalid: See `Authority.certify_subscriber`.
    """
    assert token.expires_ms is not None
    issued = authority.certify_subscriber(user, request, now_ms, token.expires_ms)
    connection.execute(
        insert(subscriber_certificates).values(
            serial=issued.serial,
            token=token.id,
            pem=issued.pem,
            issued_ms=now_ms,
            expires_ms=issued.expires_ms,
        )
    )
    record(connection, actor, "certificate issued", token.id, now_ms, serial=issued.serial)
    return issued


def counting(connection: Connection, now_ms: int) -> dict[str, tuple[str, ...]]:
    """Serials in their time and not revoked, the oldest first; by device, or by the id of the token."""
    gone = set(revoked(connection, now_ms))
    found: defaultdict[str, list[str]] = defaultdict(list)
    theirs = subscriber_certificates
    for table, holder in ((certificates, certificates.c.device), (theirs, theirs.c.token)):
        query = select(table.c.serial, holder).where(table.c.expires_ms > now_ms).order_by(table.c.expires_ms)
        for serial, name in connection.execute(query):
            if serial not in gone:
                found[name].append(serial)
    return {name: tuple(serials) for name, serials in found.items()}


def revoked(connection: Connection, now_ms: int) -> list[str]:
    """Serials that count no more: of devices put out, of keys that were left, of subscribers whose token was.

    A key is left when the device has spoken with the next: until then it may have to connect with the old
    one, to hear that the next counts. Expired certificates are refused anyway.
    """
    left = (
        select(device_keys.c.key_id)
        .where(
            device_keys.c.device == certificates.c.device,
            device_keys.c.below_seq.is_not(None),
            certificates.c.issued_ms < device_keys.c.until_ms,
        )
        .exists()
    )
    of_devices = (
        select(certificates.c.serial)
        .join(devices, devices.c.id == certificates.c.device)
        .where(or_(devices.c.revoked_ms.is_not(None), left), certificates.c.expires_ms > now_ms)
    )
    theirs = subscriber_certificates
    of_subscribers = (
        select(theirs.c.serial)
        .join(tokens, tokens.c.id == theirs.c.token)
        .where(tokens.c.revoked_ms.is_not(None), theirs.c.expires_ms > now_ms)
    )
    return sorted([*connection.execute(of_devices).scalars(), *connection.execute(of_subscribers).scalars()])


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
    folder = Path(config.broker_files or home.broker).absolute()
    ours, crl = folder / "client-ca.pem", folder / "revoked.pem"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(ours, authority.pem.encode())
        if not crl.exists():  # a broker that runs must not forget for a moment who was revoked
            write_secret(crl, authority.revocations([], now_ms))
        if given is None:
            given = _certify_port(authority, folder, _names(config), now_ms)
        elif config.broker_files:
            given = _copied(given, folder)
    except OSError as error:
        raise HomeInvalid(f"cannot write the broker's certificates in {folder}: {error.strerror}") from None
    certified = replace(
        given,
        client_ca=str(ours),
        crl=str(crl),
        certify=lambda serial: authority.certify_own(serial, time.time_ns() // 1_000_000),
    )
    return certified, authority


def _names(config: ServerConfig) -> list[str]:
    """By which the device port is reached."""
    names = ["localhost", "127.0.0.1", socket.gethostname(), *config.tls_hosts]
    names.append(device_door(config).reachable_host)
    if not is_managed(config):
        names.append(parse_url(config.broker).address.host)
    return list(dict.fromkeys(names))


def _certify_port(authority: Authority, folder: Path, names: list[str], now_ms: int) -> DeviceTls:
    certificate, key = authority.certify_server(names, now_ms)
    cert_path, key_path = folder / SERVER_CERTIFICATE, folder / SERVER_KEY
    write_secret(key_path, key)
    write_secret(cert_path, certificate.encode())
    return DeviceTls(str(cert_path), str(key_path), authority.pem)


def _copied(given: DeviceTls, folder: Path) -> DeviceTls:
    """The operator's certificate where a broker that shares only the folder can read it."""
    cert_path, key_path = folder / SERVER_CERTIFICATE, folder / SERVER_KEY
    write_secret(key_path, Path(given.key).read_bytes())
    write_secret(cert_path, Path(given.cert).read_bytes())
    return replace(given, cert=str(cert_path), key=str(key_path))


def write_revocations(path: Path, authority: Authority, serials: list[str], now_ms: int) -> None:
    """Write the list for the broker, all or nothing."""
    write_secret(path, authority.revocations(serials, now_ms))
