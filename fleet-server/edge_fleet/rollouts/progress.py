"""The devices of rollouts, counted and a page at a time by the database: there may be 100,000 of them.

How each stands is kept beside it (`standing.py`), so counts and pages are read from one index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, tuple_, union_all

from edge_fleet.assignment import State
from edge_fleet.rollouts.phases import RETURNING
from edge_fleet.rollouts.standing import GONE, Standing
from edge_fleet.schema import assignments, bundles, devices, rollout_members, rollout_steps

PORTION = 500  # below every SQLite's limit of variables
FEW = 5  # devices that are not back, named


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


@dataclass(frozen=True)
class WayBack:
    """How the last way back of a rollout went, or goes; see `safety.Safety`, which names every device.

    Args:
        began_ms: When the order to go back was stored.
        why: What it was given for.
        back: Devices that are back, those with nothing to go back to left out.
        not_back: Those that are not.
        few: Some of them, with the state of their way back.
    """

    began_ms: int
    why: str
    back: int
    median_s: float | None
    p95_s: float | None
    last_s: float | None
    not_back: int
    few: tuple[tuple[str, str], ...]


_own, _forth, _back = rollout_members.c, assignments.alias("forth"), assignments.alias("back")


def count(connection: Connection, rollouts: Iterable[str]) -> dict[str, Counts]:
    """How the devices of these rollouts stand; revoked ones are not counted."""
    ids = list(rollouts)
    found: dict[str, dict[int, Counter[Standing]]] = {rollout: {} for rollout in ids}
    for start in range(0, len(ids), PORTION):
        rows = connection.execute(
            select(_own.rollout, _own.stage, _own.standing, func.count().label("devices"))
            .where(_own.rollout.in_(ids[start : start + PORTION]), _own.standing != GONE)
            .group_by(_own.rollout, _own.stage, _own.standing)
        )
        for row in rows:
            found[row.rollout].setdefault(row.stage, Counter())[Standing(row.standing)] += row.devices
    return {rollout: Counts(stages) for rollout, stages in found.items()}


def states(connection: Connection, rollout: str, stage: int) -> Counter[State]:
    """How many devices of a stage stand where with what they were given last; not those left out."""
    rows = connection.execute(
        select(_forth.c.phase, func.count().label("devices"))
        .select_from(
            rollout_members.join(_forth, and_(_forth.c.device == _own.device, _forth.c.number == _own.number))
        )
        .where(
            _own.rollout == rollout,
            _own.stage == stage,
            _own.left_as.is_(None),
            _own.standing != GONE,
        )
        .group_by(_forth.c.phase)
    )
    return Counter({State(row.phase): row.devices for row in rows})


def page(
    connection: Connection, rollout: str, wanted: Wanted, offset: int, most: int
) -> tuple[int, list[dict[str, Any]]]:
    """How many devices fit, and some of them, by stage and name."""
    fitting = select(_own.device).where(_own.rollout == rollout, _own.standing != GONE)
    fitting = _narrowed(fitting, rollout, wanted)
    total = connection.execute(select(func.count()).select_from(fitting.subquery())).scalar_one()
    # first which devices, by the index alone; then what else is shown of those few
    ordered = fitting.order_by(_own.stage, _own.device).offset(offset).limit(most)
    names = list(connection.execute(ordered).scalars())
    rows = connection.execute(
        select(
            rollout_members,
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
        .select_from(
            rollout_members.join(_forth, and_(_forth.c.device == _own.device, _forth.c.number == _own.number))
            .outerjoin(_back, and_(_back.c.device == _own.device, _back.c.number == _own.back))
            .join(devices, devices.c.id == _own.device)
            .join(bundles, bundles.c.digest == _own.bundle)
        )
        .where(_own.rollout == rollout, _own.device.in_(names))
        .order_by(_own.stage, _own.device)
    )
    return total, [{**row, "standing": Standing(row["standing"])} for row in rows.mappings()]


def way_back(connection: Connection, rollout: str) -> WayBack | None:
    """How the last way back went; None when there was none."""
    steps = rollout_steps.c
    begun = connection.execute(
        select(steps.at_ms, steps.why)
        .where(steps.rollout == rollout, steps.phase.in_(list(RETURNING)))
        .order_by(steps.id.desc())
        .limit(1)
    ).first()
    if begun is None:
        return None
    goes = (
        _own.rollout == rollout,
        _own.standing != GONE,
        _own.back.is_not(None),
        _own.previous.is_not(None),
    )
    seconds = _seconds(connection, goes, begun.at_ms)
    late = select(_own.device, _back.c.phase).join(
        _back, and_(_back.c.device == _own.device, _back.c.number == _own.back)
    )
    late = late.where(*goes, _own.standing != Standing.BACK, _back.c.phase != State.CONFIRMED)
    not_back = connection.execute(select(func.count()).select_from(late.subquery())).scalar_one()
    few = connection.execute(late.order_by(_own.device).limit(FEW)).all()
    return WayBack(begun.at_ms, begun.why, *seconds, not_back, tuple((row.device, row.phase) for row in few))


def _seconds(
    connection: Connection, goes: Sequence[ColumnElement[bool]], began_ms: int
) -> tuple[int, float | None, float | None, float | None]:
    """How many devices are back, and after how long half, 95 % and all of them were."""
    # of one that an operator took out the word says that, and not whether it is back: its order does
    out = select(_back.c.changed_ms.label("at_ms")).join(
        rollout_members, and_(_back.c.device == _own.device, _back.c.number == _own.back)
    )
    back = union_all(
        select(_own.standing_ms.label("at_ms")).where(*goes, _own.standing == Standing.BACK),
        out.where(*goes, _own.standing == Standing.LEFT_OUT, _back.c.phase == State.CONFIRMED),
    ).subquery()
    total = connection.execute(select(func.count()).select_from(back)).scalar_one()
    if not total:
        return 0, None, None, None
    place = func.row_number().over(order_by=back.c.at_ms).label("place")
    ranked = select(back.c.at_ms, place).subquery()
    middle, p95 = ((total + 1) // 2, total // 2 + 1), -(-95 * total // 100)
    rows = connection.execute(select(ranked).where(ranked.c.place.in_((*middle, p95, total))))
    after = {row.place: max(0.0, (row.at_ms - began_ms) / 1000) for row in rows}
    return total, (after[middle[0]] + after[middle[1]]) / 2, after[p95], after[total]


def _narrowed(query: Select[Any], rollout: str, wanted: Wanted) -> Select[Any]:
    if wanted.text:
        said = _forth.c.code.icontains(wanted.text, autoescape=True)
        said |= _forth.c.detail.icontains(wanted.text, autoescape=True)
        told = select(_forth.c.device, _forth.c.number).where(_forth.c.rollout == rollout, said)
        query = query.where(
            or_(
                _own.device.icontains(wanted.text, autoescape=True),
                tuple_(_own.device, _own.number).in_(told),
            )
        )
    if wanted.device:
        query = query.where(_own.device == wanted.device)
    if wanted.stage is not None:
        query = query.where(_own.stage == wanted.stage)
    if wanted.standing is not None:
        query = query.where(_own.standing == wanted.standing)
    return query
