"""Where the rows of a time begin: by their ids, since nothing is indexed by when it arrived."""

from __future__ import annotations

from sqlalchemy import Connection, Table, func, select

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def first_id_since(connection: Connection, table: Table, since_ms: int) -> int:
    """The first row that arrived at or after a time, by halving: ids are in the order of arrival."""
    low, high = connection.execute(select(func.min(table.c.id), func.max(table.c.id))).one()
    if low is None:
        return 0
    high += 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            select(table.c.id, table.c.received_ms).where(table.c.id >= middle).order_by(table.c.id).limit(1)
        ).one_or_none()
        if row is None or row.received_ms >= since_ms:
            high = middle
        else:
            low = row.id + 1
    return int(low)
