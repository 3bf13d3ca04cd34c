"""Devices over HTTP: enrolling, listing, looking at one, revoking."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from fastapi import Body, Request
from sqlalchemy import Connection, Row, func, select
from typing_extensions import TypedDict

from edge_contracts.enrolment import CertificateAnswer, EnrolAnswer, EnrolRequest
from edge_contracts.keys import PublicKey
from edge_fleet.access import device_keys
from edge_fleet.access.certificates import Held, current
from edge_fleet.access.directors import present
from edge_fleet.api.access import Device, Operator, Reader, Shared, refused
from edge_fleet.api.answers import Router
from edge_fleet.brokers.choose import device_door
from edge_fleet.brokers.external import ExternalBroker
from edge_fleet.device_answers import DeviceHistory, DeviceInFull, DeviceSummary, GivenRelease
from edge_fleet.enrol import Enrolled, enrol, require_device, revoke
from edge_fleet.errors import Conflict, Forbidden, NotFound, Unauthorized
from edge_fleet.registry import trusted_publishers
from edge_fleet.schema import assignments, bundles, devices, envelopes, events, gaps, releases, streams
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["devices"])


class DeviceRevoked(TypedDict):
    """A device that is out of the fleet."""

    device: str
    revoked: Literal[True]


class DeviceKeyOrdered(TypedDict):
    """A device that is to change its key.

    Args:
        key: Id of the key that is to go.
    """

    device: str
    key: str


class DeviceKeyRevoked(TypedDict):
    """A former key that counts for nothing any more.

    Args:
        key: Its id.
    """

    device: str
    key: str
    revoked: Literal[True]


SHOWN_EVENTS = 50


@router.post("/enrol")
def enrol_device(body: Annotated[EnrolRequest, Body()], request: Request, services: Shared) -> EnrolAnswer:
    """Take a device into the fleet with a one-time token; asking again gives the same answer."""
    try:
        with services.store.write() as connection:
            director = present(connection, services.directors).public
            enrolled = enrol(connection, body, services.now_ms(), director.key_id)
            publishers = trusted_publishers(connection)
            held = _certificate(services, connection, enrolled.device)
    except (Unauthorized, Forbidden, Conflict) as error:
        raise refused(request, services, error) from None
    shown = (held.serial,) if held else ()
    account = services.accounts.device(enrolled.device, enrolled.credential, shown)
    services.accounts.apply(account)
    services.bus.publish("device", device=enrolled.device)
    return _answer(
        services,
        enrolled,
        account.password,
        director,
        [k.base64 for k in publishers.keys.values()],
        held,
    )


@router.get("/devices")
def list_devices(services: Shared, who: Reader) -> list[DeviceSummary]:
    """Every device, by name."""
    with services.store.read() as connection:
        return describe(connection)


@router.get("/devices/{device}")
def show_device(device: str, services: Shared, who: Reader) -> DeviceInFull:
    """One device with its streams, gaps, assignments and last events."""
    with services.store.read() as connection:
        found = describe(connection, device)
        if not found:
            raise NotFound(f"no device {device!r:.100}")
        return {
            **found[0],
            **_history(connection, device),
            "former_keys": device_keys.listed(connection, device),
        }


@router.post("/devices/{device}/revoke")
def revoke_device(device: str, services: Shared, who: Operator) -> DeviceRevoked:
    """Put a device out of the fleet: its messages are refused, its connection is cut."""
    with services.store.write() as connection:
        revoke(connection, device, who.name, services.now_ms())
    services.accounts.apply(gone=device)
    services.bus.publish("device", device=device)
    return {"device": device, "revoked": True}


@router.post("/devices/{device}/rotate-key")
def rotate_key(device: str, services: Shared, who: Operator) -> DeviceKeyOrdered:
    """Have a device make another key; it goes over to it when it has told us, and heard that we know."""
    with services.store.write() as connection:
        key = device_keys.order(connection, device, who.name, services.now_ms())
    services.dispatch.soon([device])
    return {"device": device, "key": key}


@router.post("/devices/{device}/keys/{key_id}/revoke")
def revoke_key(device: str, key_id: str, services: Shared, who: Operator) -> DeviceKeyRevoked:
    """Let a key that a device had before count for nothing any more."""
    with services.store.write() as connection:
        device_keys.revoke(connection, device, key_id, who.name, services.now_ms())
    return {"device": device, "key": key_id, "revoked": True}


def describe(connection: Connection, device: str | None = None) -> list[DeviceSummary]:
    """Devices as the API shows them: identity, state, newest assignment, telemetry position."""
    last = select(assignments.c.device, func.max(assignments.c.number).label("number"))
    if device is not None:
        last = last.where(assignments.c.device == device)
    newest = last.group_by(assignments.c.device).subquery()
    query = (
        select(
            devices,
            streams.c.high,
            assignments.c.number,
            assignments.c.bundle,
            assignments.c.phase,
            assignments.c.code,
            assignments.c.detail,
            assignments.c.rollout,
            releases.c.name.label("release_name"),
            releases.c.version.label("release_version"),
        )
        .outerjoin(streams, (streams.c.device == devices.c.id) & (streams.c.epoch == devices.c.epoch))
        .outerjoin(newest, newest.c.device == devices.c.id)
        .outerjoin(
            assignments,
            (assignments.c.device == devices.c.id) & (assignments.c.number == newest.c.number),
        )
        .outerjoin(bundles, bundles.c.digest == assignments.c.bundle)
        .outerjoin(releases, releases.c.counter == bundles.c.counter)
        .order_by(devices.c.id)
    )
    if device is not None:
        query = query.where(devices.c.id == device)
    return [_described(row) for row in connection.execute(query)]


def _described(row: Row[Any]) -> DeviceSummary:
    state = row.state or {}
    assignment: GivenRelease | None = None
    if row.number is not None:
        assignment = {
            "number": row.number,
            "bundle": row.bundle,
            "release": f"{row.release_name} {row.release_version}" if row.bundle else None,
            "rollout": row.rollout,
            "phase": row.phase,
            "code": row.code,
            "detail": row.detail,
        }
    return {
        "id": row.id,
        "public_key": base64.b64encode(row.public_key).decode(),
        "profile": row.profile,
        "labels": row.labels,
        "enrolled_ms": row.enrolled_ms,
        "revoked_ms": row.revoked_ms,
        "last_seen_ms": row.last_seen_ms,
        "agent": state.get("agent"),
        "knows": list(state.get("knows") or ()),
        "key_ordered": row.rotate_key is not None,
        "director": row.director,
        "active": state.get("active"),
        "counter": state.get("counter"),
        "assignment": assignment,
        "telemetry": {
            "epoch": row.epoch,
            "high": row.high,
            "next_seq": state.get("next_seq"),
        },
    }


def _history(connection: Connection, device: str) -> DeviceHistory:
    def rows(table: Any, order: Any, *columns: Any) -> list[Any]:
        query = select(*columns).where(table.c.device == device).order_by(order).limit(SHOWN_EVENTS)
        return [dict(row) for row in connection.execute(query).mappings()]

    counted = select(envelopes.c.epoch, func.count().label("envelopes")).group_by(envelopes.c.epoch)
    stored = {
        row.epoch: row.envelopes for row in connection.execute(counted.where(envelopes.c.device == device))
    }
    streams_shown = rows(
        streams, streams.c.started_ms.desc(), streams.c.epoch, streams.c.high, streams.c.started_ms
    )
    return {
        "streams": [
            {
                "epoch": stream["epoch"],
                "high": stream["high"],
                "started_ms": stream["started_ms"],
                "stored": stored.get(stream["epoch"], 0),
            }
            for stream in streams_shown
        ],
        "gaps": rows(
            gaps,
            gaps.c.id.desc(),
            gaps.c.epoch,
            gaps.c.first_seq,
            gaps.c.last_seq,
            gaps.c.records,
            gaps.c.reason,
            gaps.c.received_ms,
        ),
        "assignments": rows(
            assignments, assignments.c.number.desc(), *(c for c in assignments.c if c.name != "device")
        ),
        "events": rows(events, events.c.id.desc(), *(c for c in events.c if c.name not in ("id", "device"))),
    }


@router.post("/certificate")
def renew_certificate(services: Shared, device: Device) -> CertificateAnswer:
    """The certificate of the device that asks: the one it has, or the next when that is near its end."""
    if services.authority is None:
        raise NotFound("this server's broker asks for no certificates")
    with services.store.write() as connection:
        held = _certificate(services, connection, device)
        credential = require_device(connection, device).credential
    assert held is not None
    if held.is_new:  # the device connects with it next
        services.accounts.apply(services.accounts.device(device, credential, (held.serial,)))
    return CertificateAnswer(certificate=held.pem, renew_ms=held.renew_ms)


def _certificate(services: Server, connection: Connection, device: str) -> Held | None:
    if services.authority is None:
        return None
    return current(connection, services.authority, device, services.now_ms())


def _answer(
    services: Server,
    enrolled: Enrolled,
    password: str,
    director: PublicKey,
    publisher_keys: list[str],
    held: Held | None,
) -> EnrolAnswer:
    config = services.config
    address, broker = device_door(config), services.broker
    # a broker on this machine: the host that the enrolment went to, unless another was stated
    host = address.host if config.mqtt_public or not broker.managed else ""
    tls, ca = services.tls is not None, services.tls.ca if services.tls else ""
    if isinstance(broker, ExternalBroker) and services.tls is None:
        tls, ca = broker.tls, broker.ca
    return EnrolAnswer(
        device=enrolled.device,
        fleet=config.fleet,
        mqtt_host=host,
        mqtt_port=address.port,
        mqtt_tls=tls,
        mqtt_ca=ca,
        mqtt_user=enrolled.device,
        mqtt_password=password,
        director_key=director.base64,
        publisher_keys=tuple(publisher_keys),
        mqtt_certificate=held.pem if held else "",
        mqtt_certificate_renew_ms=held.renew_ms if held else 0,
    )
