"""The fleet as a rollout sees it: devices that may be chosen, and what its release has for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from edge_fleet.errors import NotFound
from edge_fleet.rollouts import selector, targets
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.schema import bundles, devices, releases, rollout_members, rollouts


def load_release(connection: Connection, name: str, version: str) -> targets.Release:
    """A release's bundles by profile.

    Raises:
        NotFound: It has not been published.
    """
    row = connection.execute(
        select(releases.c.counter).where(releases.c.name == name, releases.c.version == version)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no release {name}@{version}; `edge-fleet release list` shows all")
    found = connection.execute(
        select(bundles.c.profile, bundles.c.digest).where(bundles.c.counter == row.counter)
    )
    return targets.Release(row.counter, {bundle.profile: bundle.digest for bundle in found})


def count_bundles(connection: Connection, counter: int) -> int:
    """How many bundles a release has: each is a class of device that its gates judge by itself."""
    counted = select(func.count()).select_from(bundles).where(bundles.c.counter == counter)
    return int(connection.execute(counted).scalar_one())


def load_devices(connection: Connection, rollout: str | None = None) -> list[targets.Device]:
    """Every device that may be chosen: enrolled, not revoked.

    Args:
        rollout: The one that chooses; taking part in another makes a device busy.
    """
    own = rollout_members.c
    busy: dict[str, str] = {
        row.device: row.rollout
        for row in connection.execute(
            select(own.device, own.rollout)
            .join(rollouts, rollouts.c.id == own.rollout)
            .where(rollouts.c.phase.in_(list(WATCHED)), own.rollout != (rollout or ""))
        )
    }
    rows = connection.execute(select(devices).where(devices.c.revoked_ms.is_(None)).order_by(devices.c.id))
    return [
        targets.Device(
            id=row.id,
            profile=tuple(row.profile),
            labels=row.labels,
            counter=row.state["counter"] if row.state else 0,
            active=active_bundle(row.state),
            busy=busy.get(row.id),
        )
        for row in rows
    ]


def load_targets(connection: Connection, rollout: Rollout) -> tuple[targets.Target, ...]:
    """What every device that a rollout's selector names would get now, or why it would get nothing."""
    return targets.select(
        rollout.plan,
        selector.parse(rollout.plan.select),
        load_release(connection, rollout.plan.model, rollout.plan.version),
        load_devices(connection, rollout.id),
    )


def active_bundle(state: Mapping[str, Any] | None) -> str | None:
    """Digest of what a device runs, by its own last word."""
    return state["active"]["bundle"] if state and state.get("active") else None


def known_bundles(connection: Connection, digests: Iterable[str]) -> frozenset[str]:
    """Those of some bundles that have been published here."""
    return frozenset(
        connection.execute(select(bundles.c.digest).where(bundles.c.digest.in_(list(digests)))).scalars()
    )
