"""What a recall is about: a bundle or one artifact of it, and which windows tell of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from edge_fleet.lineage import find
from edge_fleet.schema import bundles, windows


@dataclass(frozen=True)
class Target:
    """A bundle that is recalled, or one artifact of it."""

    bundle: str
    artifact: str | None = None


def targets_of(connection: Connection, text: str) -> list[Target]:
    """What a release or a digest names.

    Raises:
        NotFound: Nothing.
        RequestInvalid: It is neither.
    """
    counter = find.release_counter(connection, text)
    if counter is not None:
        rows = connection.execute(select(bundles.c.digest).where(bundles.c.counter == counter)).scalars()
        return [Target(digest) for digest in rows]
    if "@" in text:
        find.require_release(connection, text)
    hits = find.find(connection, text)
    whole = {hit.bundle for hit in hits if hit.artifact is None}
    some = {(hit.bundle, hit.artifact) for hit in hits if hit.bundle not in whole}
    return [Target(digest) for digest in sorted(whole)] + [Target(*pair) for pair in sorted(some, key=str)]


def windows_of(targets: Sequence[Target], among: Collection[str] | None = None) -> ColumnElement[bool]:
    """Whether a window tells of one of the targets.

    Args:
        among: Only windows of these devices, few; None for all.
    """
    told = or_(
        *(
            windows.c.bundle == target.bundle
            if target.artifact is None
            else and_(windows.c.bundle == target.bundle, windows.c.artifact == target.artifact)
            for target in targets
        )
    )
    return told if among is None else and_(told, windows.c.device.in_(among))
