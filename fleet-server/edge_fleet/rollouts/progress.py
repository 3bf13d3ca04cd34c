"""The devices of rollouts, counted and a page at a time by the database: there may be 100,000 of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, case, func, or_, select

from edge_fleet.assignment import FAILED, SETTLED, State
from edge_fleet.rollouts.candidates import PORTION
from edge_fleet.schema import assignments, bundles, devices, rollout_members


class Standing(StrEnum):
    """How a device of a rollout stands, for people: one word each."""

    ON_ITS_WAY = "on-its-way"  # the release is: assigned, downloading or on trial
    CONFIRMED = "confirmed"
    FAILED = "failed"  # it refused the release, or went back by itself
    SILENT = "silent"
    GOING_BACK = "going-back"
    BACK = "back"
    NOT_BACK = "not-back"  # it is silent, or could not
    LEFT_OUT = "left-out"  # by an operator


@dataclass(frozen=True)
class Wanted:
    """What a table of devices is narrowed to; what is empty does not narrow.

    Args:
        text: A part of the device's name, or of what it said was wrong.
        device: One device's whole name.
        stage: Index.
    """

    text: str = ""
    device: str = ""
    stage: int | None = None
    standing: Standing | None = None


@dataclass(frozen=True)
class Counts:
    """How the devices of one rollout stand.

    Args:
        stages: By index of the stage.
    """

    stages: Mapping[int, Counter[Standing]] = field(default_factory=dict)

    @property
    def total(self) -> Counter[Standing]:
        """Of all stages."""
        return sum(self.stages.values(), Counter())

    @property
    def reached(self) -> int:
        """Devices in all."""
        return self.total.total()


_own, _forth, _back = rollout_members.c, assignments.alias("forth"), assignments.alias("back")
_STANDING: ColumnElement[str] = case(
    (_own.left_as.is_not(None), Standing.LEFT_OUT.value),
    (_back.c.phase == State.CONFIRMED, Standing.BACK.value),
    (_back.c.phase.in_(list(SETTLED)), Standing.NOT_BACK.value),
    (_own.back.is_not(None), Standing.GOING_BACK.value),
    (_forth.c.phase.in_(list(FAILED)), Standing.FAILED.value),
    (_forth.c.phase == State.UNREACHABLE, Standing.SILENT.value),
    (_forth.c.phase == State.CONFIRMED, Standing.CONFIRMED.value),
    else_=Standing.ON_ITS_WAY.value,
)


def count(connection: Connection, rollouts: Iterable[str]) -> dict[str, Counts]:
    """How the devices of these rollouts stand; revoked ones are not counted."""
    ids = list(rollouts)
    found: dict[str, dict[int, Counter[Standing]]] = {rollout: {} for rollout in ids}
    standing = _STANDING.label("standing")
    for start in range(0, len(ids), PORTION):
        rows = connection.execute(
            select(_own.rollout, _own.stage, standing, func.count().label("devices"))
            .select_from(_joined())
            .where(_own.rollout.in_(ids[start : start + PORTION]), devices.c.revoked_ms.is_(None))
            .group_by(_own.rollout, _own.stage, "standing")
        )
        for row in rows:
            counted = found[row.rollout].setdefault(row.stage, Counter())
            counted[Standing(row.standing)] += row.devices
    return {rollout: Counts(stages) for rollout, stages in found.items()}


def page(
    connection: Connection, rollout: str, wanted: Wanted, offset: int, most: int
) -> tuple[int, list[dict[str, Any]]]:
    """How many devices fit, and some of them, by stage and name."""
    query = (
        select(
            rollout_members,
            _STANDING.label("standing"),
            _forth.c.phase,
            _forth.c.code,
            _forth.c.detail,
            _forth.c.created_ms.label("assigned_ms"),
            _back.c.phase.label("back_phase"),
            _back.c.code.label("back_code"),
            _back.c.detail.label("back_detail"),
            devices.c.last_seen_ms,
            bundles.c.profile,
        )
        .select_from(_joined().join(bundles, bundles.c.digest == _own.bundle))
        .where(_own.rollout == rollout, devices.c.revoked_ms.is_(None))
    )
    query = _narrowed(query, wanted)
    total = connection.execute(select(func.count()).select_from(query.order_by(None).subquery())).scalar_one()
    rows = connection.execute(query.order_by(_own.stage, _own.device).offset(offset).limit(most))
    return total, [{**row, "standing": Standing(row["standing"])} for row in rows.mappings()]


def _joined() -> FromClause:
    return (
        rollout_members.join(_forth, and_(_forth.c.device == _own.device, _forth.c.number == _own.number))
        .outerjoin(_back, and_(_back.c.device == _own.device, _back.c.number == _own.back))
        .join(devices, devices.c.id == _own.device)
    )


def _narrowed(query: Select[Any], wanted: Wanted) -> Select[Any]:
    if wanted.text:
        parts = (_own.device, _forth.c.code, _forth.c.detail)
        query = query.where(or_(*(part.icontains(wanted.text, autoescape=True) for part in parts)))
    if wanted.device:
        query = query.where(_own.device == wanted.device)
    if wanted.stage is not None:
        query = query.where(_own.stage == wanted.stage)
    if wanted.standing is not None:
        query = query.where(_STANDING.in_([wanted.standing.value]))
    return query
