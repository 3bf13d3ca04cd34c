"""The signed envelopes that a recall rests on, with what their signatures are checked by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from edge_contracts.keys import PublicKey
from edge_contracts.topics import Channel, topic
from edge_fleet.access.device_keys import former_of, signer_of
from edge_fleet.lineage.targets import Target, windows_of
from edge_fleet.schema import devices, envelopes, windows

PROOF_PAGE = 200


def proof(
    connection: Connection, fleet: str, targets: Sequence[Target], after: int = 0
) -> Iterator[dict[str, Any]]:
    """The signed envelopes themselves, a page of them in the order of arrival.

    Each comes with the topic that its signature covers and the key of the device that made it.

    Args:
        after: Row id of the last one that was given.
    """
    inside = (
        select(windows.c.device, windows.c.epoch, windows.c.seq)
        .where(windows_of(targets))
        .distinct()
        .subquery()
    )
    rows = connection.execute(
        select(envelopes, devices.c.public_key)
        .join(
            inside,
            and_(
                inside.c.device == envelopes.c.device,
                inside.c.epoch == envelopes.c.epoch,
                inside.c.seq == envelopes.c.seq,
            ),
        )
        .join(devices, devices.c.id == envelopes.c.device)
        .where(envelopes.c.id > after)
        .order_by(envelopes.c.id)
        .limit(PROOF_PAGE)
    )
    found = list(rows)
    former = former_of(connection, {row.device for row in found})
    for row in found:
        signer = signer_of(row.raw, PublicKey(row.public_key), former.get(row.device, {}))
        yield {
            "id": row.id,
            "device": row.device,
            "public_key": signer.base64,
            "topic": topic(fleet, row.device, Channel.TELEMETRY),
            "epoch": row.epoch,
            "seq": row.seq,
            "received_ms": row.received_ms,
            "envelope": row.raw.hex(),
        }
