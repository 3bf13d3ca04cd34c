"""What proves an alert: the messages that it rests on, as they came, so that anybody can check them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from edge_fleet.alerts.answers import AlertProof
from edge_fleet.alerts.forgeries import IN_TURNS
from edge_fleet.alerts.obedience import RULE
from edge_fleet.schema import envelopes, forks, refused_messages

_KEPT = {RULE: "what it said", IN_TURNS: "its hello"}  # taken, not refused


def proof(connection: Connection, device: str, evidence: Mapping[str, Any]) -> list[AlertProof]:
    """The messages that an alert rests on; none where the evidence is figures only.

    Args:
        device: The alert's subject.
    """
    kind = evidence.get("proof")
    if kind == "message":
        row = connection.execute(
            select(refused_messages).where(
                refused_messages.c.device == device, refused_messages.c.reason == evidence["reason"]
            )
        ).one_or_none()
        return (
            []
            if row is None
            else [
                {
                    "what": _KEPT.get(row.reason, f"refused: {row.reason}"),
                    "topic": row.topic,
                    "envelope": row.raw.hex(),
                }
            ]
        )
    if kind not in ("fork", "gap", "hole", "envelope"):
        return []
    numbers = [evidence["seq"]]
    if kind in ("gap", "hole"):  # the neighbours show the break: the one after does not follow the one before
        numbers = [evidence["seq"] - 1, evidence["last_seq"] + (kind == "gap")]
    found: list[AlertProof] = []
    for table, what in ((envelopes, "stored"), (forks, "the other form")):
        if table is forks and kind != "fork":
            continue
        rows = connection.execute(
            select(table.c.seq, table.c.raw)
            .where(table.c.device == device, table.c.epoch == evidence["epoch"], table.c.seq.in_(numbers))
            .order_by(table.c.seq)
        )
        found += [
            {"what": f"{what}: envelope {row.seq}", "seq": row.seq, "envelope": row.raw.hex()} for row in rows
        ]
    return found
