"""Webhooks and their deliveries as rows: a queue that a restart does not empty.

Deliveries are written in the transaction of what they tell, and marked when a receiver has answered: one
that was sent before a crash is sent again under the same id. URLs come from an admin and from nowhere else.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import httpx
from sqlalchemy import Connection, delete, func, insert, or_, select, update
from typing_extensions import TypedDict

from edge_fleet.audit import record
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.model import Instant
from edge_fleet.schema import webhook_deliveries, webhooks
from edge_fleet.webhooks.retries import next_wait_s

KINDS = ("alert.firing", "alert.resolved", "retraining.requested", "test")
MAX_WEBHOOKS = 32
MAX_BODY_BYTES = 256 << 10
KEEP_MS = 30 * 86_400_000  # of what was delivered


@dataclass(frozen=True)
class Due:
    """A delivery whose time has come."""

    id: int
    webhook: str
    url: str
    message: str
    body: bytes
    attempts: int


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    Args:
        answer: For people.
        for_good: The receiver said that it takes nothing any more.
    """

    taken: bool
    answer: str
    for_good: bool = False


def check_url(url: str) -> str:
    """Give a receiver's URL back, or refuse it.

    This machine and private networks are allowed, that is where receivers of a fleet are; an address that
    only a mistake or an attack would name is not.

    Raises:
        RequestInvalid: Not http(s), with a password, or of a link-local, multicast or unspecified address.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.fragment:
        raise RequestInvalid(f"{url!r:.200} is not a URL of a receiver; give https://HOST/PATH")
    if parsed.userinfo:
        raise RequestInvalid("a receiver's URL has no user or password: deliveries are signed instead")
    try:
        address = ipaddress.ip_address(parsed.host)
    except ValueError:
        return str(parsed)
    address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:169.254.1.1 reaches the same
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise RequestInvalid(
            f"{parsed.host} is no address of a receiver (link-local, multicast or unspecified)"
        )
    return str(parsed)


def add(connection: Connection, url: str, kinds: Sequence[str], actor: str, now_ms: int) -> str:
    """Make a webhook; its id.

    Raises:
        RequestInvalid: The URL or a kind is refused, or there are too many.
    """
    address = check_url(url)
    for kind in kinds:
        if kind not in KINDS:
            raise RequestInvalid(f"no webhook tells of {kind!r:.60}; there are {', '.join(KINDS)}")
    count = connection.execute(select(func.count()).where(webhooks.c.removed_ms.is_(None))).scalar_one()
    if count >= MAX_WEBHOOKS:
        raise RequestInvalid(f"there are {count} webhooks, at most {MAX_WEBHOOKS} are kept")
    name = f"wh_{secrets.token_hex(6)}"
    connection.execute(
        insert(webhooks).values(id=name, url=address, kinds=list(kinds or KINDS[:-1]), created_ms=now_ms)
    )
    record(connection, actor, "webhook added", name, now_ms, url=address, kinds=list(kinds))
    return name


def remove(connection: Connection, webhook: str, actor: str, now_ms: int) -> None:
    """Send nothing there any more; what waits for it is given up.

    Raises:
        NotFound: There is no such webhook.
    """
    require(connection, webhook)
    connection.execute(update(webhooks).where(webhooks.c.id == webhook).values(removed_ms=now_ms))
    waiting = webhook_deliveries.c
    connection.execute(
        update(webhook_deliveries)
        .where(waiting.webhook == webhook, waiting.delivered_ms.is_(None), waiting.dead_ms.is_(None))
        .values(dead_ms=now_ms, answer="the webhook was removed")
    )
    record(connection, actor, "webhook removed", webhook, now_ms)


def require(connection: Connection, webhook: str) -> Any:
    """The row of a webhook that is in use.

    Raises:
        NotFound: There is none.
    """
    row = connection.execute(
        select(webhooks).where(webhooks.c.id == webhook, webhooks.c.removed_ms.is_(None))
    ).one_or_none()
    if row is None:
        raise NotFound(f"no webhook {webhook!r:.60}")
    return row


class WebhookShown(TypedDict):
    """A receiver of what the server tells.

    Args:
        kinds: Of messages that it wants.
        waiting, delivered, dead: Deliveries that wait, were taken, and were given up.
    """

    id: str
    url: str
    kinds: list[str]
    created_ms: Instant
    waiting: int
    delivered: int
    dead: int


class DeliveryShown(TypedDict):
    """A message for one receiver.

    Args:
        message: Its id, the same over all attempts.
        next_ms: When it is tried next, or was tried last.
        answer: To the last attempt; "" before the first.
        delivered_ms: Null while it was not taken.
        dead_ms: When it was given up; null while it was not.
    """

    id: int
    webhook: str
    message: str
    kind: str
    created_ms: Instant
    next_ms: Instant
    attempts: int
    answer: str
    delivered_ms: Instant | None
    dead_ms: Instant | None


def listed(connection: Connection) -> list[WebhookShown]:
    """Webhooks in use, with how many deliveries wait and how many were given up."""
    own = webhook_deliveries.c
    counts: dict[str, dict[str, int]] = {}
    for row in connection.execute(
        select(own.webhook, own.delivered_ms.is_(None).label("open"), own.dead_ms.is_not(None).label("dead"),
               func.count().label("n")).group_by(own.webhook, "open", "dead")
    ):  # fmt: skip
        word = "dead" if row.dead else "waiting" if row.open else "delivered"
        counts.setdefault(row.webhook, {})[word] = row.n
    rows = connection.execute(
        select(webhooks).where(webhooks.c.removed_ms.is_(None)).order_by(webhooks.c.created_ms, webhooks.c.id)
    )
    return [
        {
            "id": row.id,
            "url": row.url,
            "kinds": row.kinds,
            "created_ms": row.created_ms,
            "waiting": counts.get(row.id, {}).get("waiting", 0),
            "delivered": counts.get(row.id, {}).get("delivered", 0),
            "dead": counts.get(row.id, {}).get("dead", 0),
        }
        for row in rows
    ]


def enqueue(
    connection: Connection,
    kind: str,
    told: Mapping[str, Any],
    now_ms: int,
    only: str | None = None,
    about: str = "",
) -> int:
    """Queue a message for every webhook that wants its kind; how many they are.

    Args:
        only: This one alone, whatever it wants.
        about: What it tells of, at most 128 characters: a receiver gets what is about one thing in the order
            in which it was queued. "" waits for nothing else.
    """
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = json.dumps({"type": kind, "timestamp": at, "data": dict(told)}, separators=(",", ":"))
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"a message of {len(body)} bytes, at most {MAX_BODY_BYTES} are sent")
    rows = [
        {
            "webhook": row.id,
            "message": f"msg_{secrets.token_hex(12)}",
            "kind": kind,
            "about": about,
            "body": body,
            "created_ms": now_ms,
            "next_ms": now_ms,
            "attempts": 0,
            "answer": "",
        }
        for row in connection.execute(select(webhooks).where(webhooks.c.removed_ms.is_(None)))
        if (row.id == only if only else kind in row.kinds)
    ]
    if rows:
        over = webhook_deliveries.c.delivered_ms < now_ms - KEEP_MS
        connection.execute(delete(webhook_deliveries).where(over))
        connection.execute(insert(webhook_deliveries), rows)
    return len(rows)


def due(connection: Connection, now_ms: int, most: int = 8) -> list[Due]:
    """Deliveries whose time has come and whose turn it is, by webhook, of each the oldest first.

    One that is about something waits while an older one about the same is still to be taken or given up: a
    receiver that comes back hears of the end of an alert after it has heard of the alert.

    Args:
        most: Of one webhook: what waits for one that is away must not keep what waits for another out.
    """
    own = webhook_deliveries.c
    turn = func.row_number().over(partition_by=(own.webhook, own.about), order_by=own.id)
    open_ones = (
        select(own.id, own.webhook, own.about, own.next_ms, turn.label("turn"))
        .where(own.delivered_ms.is_(None), own.dead_ms.is_(None))
        .subquery()
    )
    one = open_ones.c
    place = func.row_number().over(partition_by=one.webhook, order_by=(one.next_ms, one.id))
    waiting = (
        select(one.id, place.label("place"))
        .where(one.next_ms <= now_ms, or_(one.about == "", one.turn == 1))
        .subquery()
    )
    rows = connection.execute(
        select(webhook_deliveries, webhooks.c.url)
        .join(waiting, waiting.c.id == own.id)
        .join(webhooks, webhooks.c.id == own.webhook)
        .where(waiting.c.place <= most)
        .order_by(own.webhook, own.next_ms, own.id)
    )
    return [Due(row.id, row.webhook, row.url, row.message, row.body.encode(), row.attempts) for row in rows]


def note(connection: Connection, one: Due, outcome: Outcome, chance: float, now_ms: int) -> None:
    """Write what became of an attempt."""
    attempts = one.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "answer": outcome.answer[:300]}
    wait_s = None if outcome.taken or outcome.for_good else next_wait_s(attempts, chance)
    if outcome.taken:
        values["delivered_ms"] = now_ms
    elif wait_s is None:
        values["dead_ms"] = now_ms
    else:
        values["next_ms"] = now_ms + round(1000 * wait_s)
    own = webhook_deliveries.c
    connection.execute(
        update(webhook_deliveries).where(own.id == one.id, own.dead_ms.is_(None)).values(**values)
    )


def count_deliveries(connection: Connection, dead: bool = False) -> int:
    """How many deliveries are kept, or were given up."""
    query = select(func.count()).select_from(webhook_deliveries)
    if dead:
        query = query.where(webhook_deliveries.c.dead_ms.is_not(None))
    return connection.execute(query).scalar_one()


def deliveries(
    connection: Connection, dead: bool = False, most: int = 100, skip: int = 0
) -> list[DeliveryShown]:
    """The newest deliveries, or those that were given up; `skip` of them left out."""
    query = select(webhook_deliveries).order_by(webhook_deliveries.c.id.desc()).offset(skip).limit(most)
    if dead:
        query = query.where(webhook_deliveries.c.dead_ms.is_not(None))
    shown = DeliveryShown.__annotations__
    rows = connection.execute(query).mappings()
    return [cast("DeliveryShown", {name: row[name] for name in shown}) for row in rows]


def retry(connection: Connection, delivery: int, actor: str, now_ms: int) -> None:
    """Try one again that was given up.

    Raises:
        NotFound: None of this number was given up, or its webhook was removed.
    """
    own = webhook_deliveries.c
    query = select(own.webhook, own.delivered_ms, own.dead_ms).where(own.id == delivery)
    row = connection.execute(query).one_or_none()
    if row is None or row.dead_ms is None:
        why = "none has this number" if row is None else "it waits, and is tried again by itself"
        if row is not None and row.delivered_ms is not None:
            why = "it was delivered"
        raise NotFound(f"no delivery {delivery} that was given up: {why}")
    require(connection, row.webhook)
    connection.execute(
        update(webhook_deliveries)
        .where(own.id == delivery)
        .values(dead_ms=None, attempts=0, next_ms=now_ms, answer="tried again")
    )
    record(connection, actor, "webhook retried", row.webhook, now_ms, delivery=delivery)
