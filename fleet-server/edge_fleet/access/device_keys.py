"""The keys of devices as rows: which counts, which counted before, and until when.

A device changes its key by a status that the old key signed (`edge_contracts.succession`). The old key is
kept: what it has signed stays verifiable, and envelopes that it signed before the device went over still
arrive. Where its word ends the device says itself, in its first snapshot that the new key has signed: the
number of the next envelope. From there on, and for everything but telemetry, it counts for nothing; a
revoked one counts for nothing at all.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import cast

from sqlalchemy import Connection, insert, select, update

from edge_contracts import cose
from edge_contracts.keys import PublicKey
from edge_fleet.audit import record
from edge_fleet.device_answers import PastKey
from edge_fleet.enrol import require_device
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.schema import device_keys, devices
from edge_fleet.storage.portions import portions
from edge_fleet.verification import FormerKey


def order(connection: Connection, device: str, actor: str, now_ms: int) -> str:
    """Have a device make another key; returns the id of the one that is to go.

    Raises:
        NotFound: No such device.
        Conflict: It is out of the fleet, or its agent knows nothing of that.
    """
    row = require_device(connection, device)
    if row.revoked_ms is not None:
        raise Conflict(f"device {device!r} is out of the fleet")
    if "keys" not in ((row.state or {}).get("knows") or ()):
        raise Conflict(f"the agent of {device!r} does not know how to change its key; update it first")
    key_id = PublicKey(row.public_key).key_id
    connection.execute(update(devices).where(devices.c.id == device).values(rotate_key=key_id))
    record(connection, actor, "device key change ordered", device, now_ms, key=key_id)
    return key_id


def succeed(connection: Connection, device: str, old: PublicKey, new: PublicKey, now_ms: int) -> str:
    """Go by the next key of a device from now on; its possession has been proven.

    Returns:
        Why not, or "" when it counts now; doing it twice changes nothing.
    """
    row = connection.execute(
        select(devices.c.public_key, devices.c.enrolled_ms, devices.c.key_since_ms).where(
            devices.c.id == device
        )
    ).one()
    if row.public_key == new.raw:
        return ""
    if row.public_key != old.raw:
        return "another key has followed it already"
    if _is_taken(connection, new):
        return f"key {new.key_id} is or was a device's already"
    connection.execute(
        insert(device_keys).values(
            key_id=old.key_id,
            device=device,
            public_key=old.raw,
            since_ms=row.key_since_ms or row.enrolled_ms,
            until_ms=now_ms,
        )
    )
    changed = {"public_key": new.raw, "key_since_ms": now_ms, "rotate_key": None}
    connection.execute(update(devices).where(devices.c.id == device).values(**changed))
    actor = f"device/{device}"
    record(connection, actor, "device key changed", device, now_ms, before=old.key_id, after=new.key_id)
    return ""


def bound(connection: Connection, device: str, key: PublicKey, epoch: str, next_seq: int) -> None:
    """Store where the word of a device's former keys ends: it has gone over, and says its next number.

    Args:
        key: Which signed that; one that was followed in the same batch ends nothing.
    """
    counts = select(devices.c.id).where(devices.c.id == device, devices.c.public_key == key.raw)
    connection.execute(
        update(device_keys)
        .where(device_keys.c.device == device, device_keys.c.below_seq.is_(None), counts.exists())
        .values(epoch=epoch, below_seq=next_seq)
    )


def revoke(connection: Connection, device: str, key_id: str, actor: str, now_ms: int) -> None:
    """Let a former key of a device count for nothing any more; what is stored stays.

    Raises:
        NotFound: The device never had it.
        Conflict: It is the one that counts.
    """
    if PublicKey(require_device(connection, device).public_key).key_id == key_id:
        raise Conflict(
            f"{key_id} is the key that {device} is known by: have it make another first "
            "(edge-fleet devices rotate), or put the device out"
        )
    here = (device_keys.c.device == device) & (device_keys.c.key_id == key_id)
    row = connection.execute(select(device_keys.c.revoked_ms).where(here)).one_or_none()
    if row is None:
        raise NotFound(f"device {device!r} never had a key {key_id!r:.80}")
    if row.revoked_ms is None:
        connection.execute(update(device_keys).where(here).values(revoked_ms=now_ms))
        record(connection, actor, "device key revoked", device, now_ms, key=key_id)


def former_of(connection: Connection, names: Iterable[str]) -> dict[str, dict[str, FormerKey]]:
    """The former keys of some devices, by device and id."""
    found: dict[str, dict[str, FormerKey]] = {}
    for portion in portions(sorted(set(names))):
        for row in connection.execute(select(device_keys).where(device_keys.c.device.in_(portion))):
            key = FormerKey(PublicKey(row.public_key), row.revoked_ms is not None, row.epoch, row.below_seq)
            found.setdefault(row.device, {})[row.key_id] = key
    return found


def signer_of(envelope: bytes, current: PublicKey, former: Mapping[str, FormerKey]) -> PublicKey:
    """Which of a device's keys an envelope says that it was signed by; the current one for any other.

    Raises:
        FormatInvalid: It is no envelope.
    """
    named = former.get(cose.parse(envelope, 1 << 30).key_id)
    return current if named is None or named.revoked else named.key


def listed(connection: Connection, device: str) -> list[PastKey]:
    """The former keys of a device, newest first; raw public keys in base64, to verify what they sealed."""
    columns = [column for column in device_keys.c if column.name != "device"]
    query = select(*columns).where(device_keys.c.device == device).order_by(device_keys.c.until_ms.desc())
    rows = connection.execute(query).mappings()
    return [
        cast(PastKey, {**row, "public_key": base64.b64encode(row["public_key"]).decode()}) for row in rows
    ]


def was_used(connection: Connection, key: PublicKey) -> str | None:
    """The device that had a key once, or None."""
    found = connection.execute(
        select(device_keys.c.device).where(device_keys.c.key_id == key.key_id)
    ).scalar()
    return None if found is None else str(found)


def _is_taken(connection: Connection, key: PublicKey) -> bool:
    held = select(devices.c.id).where(devices.c.public_key == key.raw)
    return connection.execute(held).first() is not None or was_used(connection, key) is not None
