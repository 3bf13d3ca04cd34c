"""Trusted publishers, refusals, metrics and the broker over HTTP."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import Field
from sqlalchemy import Row, func, select
from typing_extensions import TypedDict

from edge_contracts.keys import PublicKey
from edge_fleet.api.access import Admin, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.audit import record
from edge_fleet.brokers.choose import device_door
from edge_fleet.model import Frozen, Instant
from edge_fleet.registry import trust
from edge_fleet.schema import devices, envelopes, publishers, refusals, windows

router = Router(prefix="/api/v1", tags=["administration"])


class PublisherRequest(Frozen):
    """A publisher's public key: raw 32 bytes, base64."""

    public_key: str
    label: str = Field(default="", max_length=128)


class OutageRequest(Frozen):
    """How long the broker is to stay down."""

    seconds: float = Field(ge=0, le=300)


PublisherState = Literal["trusted", "retired", "revoked"]


class PublisherShown(TypedDict):
    """Whose bundles may be published.

    Args:
        public_key: Ed25519, 32 bytes in base64.
        state: "retired": it signs nothing new, what it signed stays; "revoked": it counts for nothing.
    """

    key_id: str
    public_key: str
    label: str
    added_ms: Instant
    state: PublisherState


class PublisherAdded(TypedDict):
    """A publisher that is trusted.

    Args:
        added: False when it was trusted before.
    """

    key_id: str
    added: bool


class CountsSinceStart(TypedDict):
    """Counts since the server's start.

    Args:
        messages_waiting: That are not stored yet.
    """

    messages_received: int
    envelopes_stored: int
    records_stored: int
    acknowledgements_sent: int
    batches_failed: int
    messages_waiting: int


class CountsStored(TypedDict):
    """Rows in the database."""

    devices: int
    envelopes: int
    windows: int


class FleetCounts(TypedDict):
    """What the server has done and has.

    Args:
        refused: Messages that were refused, by reason.
    """

    since_start: CountsSinceStart
    stored: CountsStored
    refused: dict[str, int]
    broker_up: bool


class MessagesRefused(TypedDict):
    """Messages that were refused for one reason.

    Args:
        device: "" for senders that are no device of this fleet.
        detail: Of the last one.
    """

    reason: str
    device: str
    count: int
    last_ms: Instant
    detail: str


class BrokerShown(TypedDict):
    """The broker.

    Args:
        address: HOST:PORT for devices.
        pid: Of a managed one's process; null for an external one, and while it is down.
        connected: Whether the server hears it.
    """

    name: str
    kind: Literal["managed", "external"]
    address: str
    pid: int | None
    connected: bool


class BrokerAccount(TypedDict):
    """Who may connect.

    Args:
        publish, subscribe: MQTT filters.
    """

    user: str
    password: str
    publish: list[str]
    subscribe: list[str]


class OutageBegun(TypedDict):
    """A broker that is down.

    Args:
        down_s: For so many seconds.
    """

    down_s: float


@router.get("/publishers")
def list_publishers(services: Shared, who: Reader) -> list[PublisherShown]:
    """The keys whose bundles may be published."""
    with services.store.read() as connection:
        rows = connection.execute(select(publishers).order_by(publishers.c.added_ms))
        return [
            {
                "key_id": row.key_id,
                "public_key": PublicKey(row.public_key).base64,
                "label": row.label,
                "added_ms": row.added_ms,
                "state": _state(row),
            }
            for row in rows
        ]


def _state(row: Row[Any]) -> PublisherState:
    if row.revoked_ms is not None:
        return "revoked"
    return "trusted" if row.retired_ms is None else "retired"


@router.post("/publishers", status_code=201)
def add_publisher(body: PublisherRequest, services: Shared, who: Admin) -> PublisherAdded:
    """Trust a publisher's key. Devices that enrol from now on are told of it."""
    key = PublicKey.from_base64(body.public_key)
    with services.store.write() as connection:
        added = trust(connection, key, body.label, who.name, services.now_ms())
    return {"key_id": key.key_id, "added": added}


@router.get("/metrics")
def metrics(services: Shared, who: Reader) -> FleetCounts:
    """Counts since the start, counts in the database, and what was refused by reason."""
    with services.store.read() as connection:

        def count(table: Any) -> int:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

        total = func.sum(refusals.c.count).label("total")
        rows = connection.execute(select(refusals.c.reason, total).group_by(refusals.c.reason))
        refused = {row.reason: int(row.total) for row in rows}
        stored: CountsStored = {
            "devices": count(devices),
            "envelopes": count(envelopes),
            "windows": count(windows),
        }
    counters = services.ingest.counters
    return {
        "since_start": {
            "messages_received": counters.received,
            "envelopes_stored": counters.envelopes,
            "records_stored": counters.records,
            "acknowledgements_sent": counters.acknowledged,
            "batches_failed": counters.failed_batches,
            "messages_waiting": services.ingest.waiting,
        },
        "stored": stored,
        "refused": refused,
        "broker_up": services.link.is_up,
    }


@router.get("/refusals")
def list_refusals(services: Shared, who: Reader) -> list[MessagesRefused]:
    """What was refused, by reason and device, with the last case."""
    with services.store.read() as connection:
        query = select(refusals).order_by(refusals.c.last_ms.desc()).limit(1000)
        return [cast(MessagesRefused, dict(row)) for row in connection.execute(query).mappings()]


@router.get("/broker")
def show_broker(services: Shared, who: Reader) -> BrokerShown:
    """What broker there is, and whether the server hears it."""
    broker = services.broker
    kind: Literal["managed", "external"] = "managed" if broker.managed else "external"
    address = str(device_door(services.config))
    return {
        "name": broker.name,
        "kind": kind,
        "address": address,
        "pid": broker.pid,
        "connected": services.link.is_up,
    }


@router.get("/broker/accounts")
def list_accounts(services: Shared, who: Admin) -> list[BrokerAccount]:
    """The accounts and rights that a broker must have, with passwords: for one that is not managed."""
    return [
        {
            "user": account.user,
            "password": account.password,
            "publish": list(account.publish),
            "subscribe": list(account.subscribe),
        }
        for account in services.accounts.listed()
    ]


@router.post("/broker/outage")
def rehearse_outage(body: OutageRequest, services: Shared, who: Admin) -> OutageBegun:
    """Kill the managed broker and keep it down for a while: to see that nothing is lost."""
    with services.store.write() as connection:
        record(
            connection,
            who.name,
            "broker outage",
            services.broker.name,
            services.now_ms(),
            seconds=body.seconds,
        )
    services.broker.outage(body.seconds)
    return {"down_s": body.seconds}
