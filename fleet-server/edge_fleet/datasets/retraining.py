"""Asking for a retraining: a webhook with the evidence, and where the reviewed samples are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection

from edge_fleet.audit import record
from edge_fleet.datasets.rows import counted
from edge_fleet.webhooks.rows import enqueue

KIND = "retraining.requested"


def request(
    connection: Connection, bundle: str, why: str, evidence: Mapping[str, Any], actor: str, now_ms: int
) -> int:
    """Queue the webhook; how many receivers are told.

    Args:
        evidence: Small; such as that of the alert that asks.
    """
    query = urlencode({"what": bundle, "labelled": "true", "form": "npz"})
    told = {
        "bundle": bundle,
        "why": why,
        "evidence": dict(evidence),
        "samples": {
            **counted(connection, bundle),
            "export": f"/api/v1/datasets/export?{query}",
        },
    }
    receivers = enqueue(connection, KIND, told, now_ms)
    if receivers:
        record(connection, actor, "retraining requested", bundle, now_ms, why=why, receivers=receivers)
    return receivers
