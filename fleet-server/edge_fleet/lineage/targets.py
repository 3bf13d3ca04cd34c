"""What a recall is about: a bundle or one artifact of it, and which windows tell of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, or_, select, tuple_

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
    own = windows.c
    told = either(targets, own.bundle.in_, tuple_(own.bundle, own.artifact).in_)
    return told if among is None else and_(told, own.device.in_(among))


def either(
    targets: Sequence[Target],
    whole: Callable[[list[str]], ColumnElement[bool]],
    some: Callable[[list[tuple[str, str]]], ColumnElement[bool]],
) -> ColumnElement[bool]:
    """Whether one of the bundles that are meant as a whole is told of, or one of the single artifacts.

    An artifact can lie in a thousand bundles: a statement should not be another one for each number of
    targets (each is kept), and SQLite takes no expression that is a thousand deep.

    Args:
        whole, some: What asks for any of some bundles, and of some bundles with an artifact.
    """
    digests = [target.bundle for target in targets if target.artifact is None]
    pairs = [(target.bundle, target.artifact) for target in targets if target.artifact is not None]
    return or_(*([whole(digests)] if digests else []), *([some(pairs)] if pairs else []))
