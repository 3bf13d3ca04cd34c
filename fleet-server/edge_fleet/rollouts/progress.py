"""The devices of rollouts, counted and a page at a time by the database: there may be 100,000 of them.

How each stands is kept beside it (`standing.py`), and how many stand how as well (`counting.py`): a page asks
for as many rows as it shows, and only a text is looked for in all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, func, select, tuple_

from edge_fleet.assignment import State
from edge_fleet.errors import RequestInvalid
from edge_fleet.rollouts import counting
from edge_fleet.rollouts.phases import RETURNING
from edge_fleet.rollouts.standing import GONE, Standing
from edge_fleet.schema import (
    HAS_SAID,
    IS_BACK,
    assignments,
    bundles,
    devices,
    rollout_members,
    rollout_steps,
    standings,
)
from edge_fleet.standings.condition import Health

FEW = 5  # devices that are not back, named
FOUND = 10_000  # how many devices that have a text are told apart; beyond, it is "more than"


class Place(NamedTuple):
    """Of a device in a rollout's table."""

    stage: int
    device: str

    @property
    def cursor(self) -> str:
        """For a client that asks for what comes after it."""
        return f"{self.stage}.{self.device}"

    @staticmethod
    def parse(text: str) -> Place:
        """A cursor again.

        Raises:
            RequestInvalid: It is none.
        """
        stage, _, device = text.partition(".")
        if not (stage.isascii() and stage.isdigit() and len(stage) < 4 and device):
            raise RequestInvalid(
                f"after {text!r:.100} is no cursor; give `next` of the answer before, or nothing"
            )
        return Place(int(stage), device)


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
    """How the devices of one rollout stand; revoked ones are not counted.

    Args:
        stages: By index of the stage.
        kinds: The same in full.
    """

    stages: Mapping[int, Counter[Standing]] = field(default_factory=dict)
    kinds: Mapping[counting.Kind, int] = field(default_factory=dict)

    @property
    def total(self) -> Counter[Standing]:
        """Of all stages."""
        return sum(self.stages.values(), Counter())

    @property
    def reached(self) -> int:
        """Devices in all."""
        return self.total.total()

    def states(self, stage: int | None = None) -> Counter[State]:
        """How many devices stand where with the assignment that brings the release.

        Args:
            stage: Of this one, and without those that an operator left out; None for all of all stages.
        """
        found: Counter[State] = Counter()
        for kind, number in self.kinds.items():
            if stage is None or (kind.stage == stage and kind.standing != Standing.LEFT_OUT):
                found[State(kind.state)] += number
        return found


@dataclass(frozen=True)
class Page:
    """Some devices of a rollout.

    Args:
        total: How many fit, at most FOUND of those that have a text.
        more: Whether there are more than that.
    """

    total: int
    rows: list[dict[str, Any]]
    more: bool = False


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
_HERE = _own.standing != GONE
_RETURNS = _own.back.is_not(None) & _own.previous.is_not(None)


def count(connection: Connection, rollouts: Iterable[str]) -> dict[str, Counts]:
    """How the devices of these rollouts stand."""
    ids = list(rollouts)
    stages: dict[str, dict[int, Counter[Standing]]] = {rollout: {} for rollout in ids}
    kinds: dict[str, dict[counting.Kind, int]] = {rollout: {} for rollout in ids}
    for kind, number in counting.counted(connection, ids).items():
        if kind.standing != GONE:
            kinds[kind.rollout][kind] = number
            stages[kind.rollout].setdefault(kind.stage, Counter())[Standing(kind.standing)] += number
    return {rollout: Counts(stages[rollout], kinds[rollout]) for rollout in ids}


def page(
    connection: Connection, rollout: str, wanted: Wanted, offset: int, most: int, after: Place | None = None
) -> Page:
    """How many devices fit, and some of them, by stage and name.

    Args:
        offset: How many come before; counted from `after` on where that is given.
    """
    more = False
    if wanted.device:
        places: list[Place] = _places(connection, _narrowed(rollout, wanted), most)
        total = len(places)
        places = places[offset:]
    elif wanted.text:
        places = _with_text(connection, rollout, wanted)
        total, more = min(len(places), FOUND), len(places) > FOUND
        places = [place for place in places[:total] if after is None or place > after]
        places = places[offset : offset + most]
    else:
        total = sum(
            number
            for kind, number in count(connection, [rollout])[rollout].kinds.items()
            if wanted.stage in (None, kind.stage) and wanted.standing in (None, kind.standing)
        )
        query = _narrowed(rollout, wanted)
        if after is None:
            places = _far(connection, query, total, offset, most)
        else:
            places = _places(connection, query.where(tuple_(_own.stage, _own.device) > after), most, offset)
    return Page(total, rows_of(connection, rollout, [name for _, name in places]), more)


def silent(connection: Connection, rollout: str) -> tuple[int, tuple[str, ...]]:
    """Devices on their way, there or back, of which nothing is heard: how many, and some of them by name.

    The plan's `silence_s` has not passed yet: until then a rollout waits for them.
    """
    moving = _own.standing.in_((Standing.ON_ITS_WAY, Standing.GOING_BACK))
    found = (
        select(_own.device)
        .join(standings, standings.c.device == _own.device)
        .where(_own.rollout == rollout, moving, standings.c.health == Health.SILENT)
    )
    names = connection.execute(found.order_by(_own.device).limit(FEW)).scalars().all()
    if len(names) < FEW:
        return len(names), tuple(names)
    counted = select(func.count()).select_from(found.subquery())
    return int(connection.execute(counted).scalar_one()), tuple(names)


def rows_of(connection: Connection, rollout: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """What is shown of a few devices, by stage and name."""
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
    return [{**row, "standing": Standing(row["standing"])} for row in rows.mappings()]


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
    kinds = count(connection, [rollout])[rollout].kinds
    returns: Counter[str] = Counter()
    for kind, number in kinds.items():
        if kind.returns:
            returns[kind.standing] += number
    # of one that an operator took out the word says that, and not whether it is back: its order does
    out = select(_back.c.changed_ms, _back.c.phase, _own.device).join(
        rollout_members, and_(_back.c.device == _own.device, _back.c.number == _own.back)
    )
    out = out.where(_own.rollout == rollout, _own.standing == Standing.LEFT_OUT, _RETURNS)
    taken = connection.execute(out).all() if returns[Standing.LEFT_OUT] else []
    back_ms = sorted(row.changed_ms for row in taken if row.phase == State.CONFIRMED)
    late = [row.device for row in taken if row.phase != State.CONFIRMED]
    for word in (Standing.NOT_BACK, Standing.GOING_BACK):
        of_it = _narrowed(rollout, Wanted(standing=word)).where(_RETURNS)
        late += [name for _, name in _places(connection, of_it, FEW)] if returns[word] else []
    told = {row["device"]: row["back_phase"] for row in rows_of(connection, rollout, sorted(late)[:FEW])}
    seconds = _seconds(connection, rollout, returns[Standing.BACK], back_ms, begun.at_ms)
    not_back = returns[Standing.NOT_BACK] + returns[Standing.GOING_BACK] + len(taken) - len(back_ms)
    return WayBack(begun.at_ms, begun.why, *seconds, not_back, tuple(sorted(told.items())))


def _seconds(
    connection: Connection, rollout: str, standing: int, taken_ms: Sequence[int], began_ms: int
) -> tuple[int, float | None, float | None, float | None]:
    """How many devices are back, and after how long half, 95 % and all of them were.

    Args:
        standing: How many have the word for it; the index is counted off, from its nearer end.
        taken_ms: When others were that an operator took out, in order.
    """
    total = standing + len(taken_ms)
    if not total:
        return 0, None, None, None

    middle, p95 = ((total + 1) // 2, total // 2 + 1), -(-95 * total // 100)
    at_ms = {place: _nth(connection, rollout, place, standing, taken_ms) for place in {*middle, p95, total}}
    after = {place: max(0.0, (ms - began_ms) / 1000) for place, ms in at_ms.items()}
    return total, (after[middle[0]] + after[middle[1]]) / 2, after[p95], after[total]


def _nth(connection: Connection, rollout: str, place: int, standing: int, taken_ms: Sequence[int]) -> int:
    """When the place-th device was back, from 1; only so many rows are read as others may lie between."""
    low, high = max(1, place - len(taken_ms)), min(standing, place)
    if high < low:
        return taken_ms[place - standing - 1]
    forward = low <= standing - high
    order = _own.standing_ms if forward else _own.standing_ms.desc()
    query = select(_own.standing_ms).where(_own.rollout == rollout, IS_BACK).order_by(order)
    some = connection.execute(query.offset(low - 1 if forward else standing - high).limit(high - low + 1))
    between: list[int] = sorted([*some.scalars(), *taken_ms])
    return between[place - low]


def _with_text(connection: Connection, rollout: str, wanted: Wanted) -> list[Place]:
    """The first of those whose name or last word has a text, one more than are told apart."""
    code, detail = (
        column.icontains(wanted.text, autoescape=True)
        for column in (assignments.c.code, assignments.c.detail)
    )
    said = select(assignments.c.device, assignments.c.number)
    said = said.where(assignments.c.rollout == rollout, HAS_SAID, code | detail)
    narrowed = _narrowed(rollout, wanted)
    named = narrowed.where(_own.device.icontains(wanted.text, autoescape=True))
    told = narrowed.where(tuple_(_own.device, _own.number).in_(said))
    both = (_places(connection, query, FOUND + 1) for query in (named, told))
    return sorted({place for places in both for place in places})[: FOUND + 1]


def _places(connection: Connection, query: Select[Any], most: int, offset: int = 0) -> list[Place]:
    rows = connection.execute(query.order_by(_own.stage, _own.device).offset(offset).limit(most))
    return [Place(row.stage, row.device) for row in rows]


def _far(connection: Connection, query: Select[Any], total: int, offset: int, most: int) -> list[Place]:
    """Places of a table of which it is known how long it is: counted off from the nearer end."""
    if offset <= total // 2:
        return _places(connection, query, most, offset)
    behind = max(0, total - offset - most)
    last = query.order_by(_own.stage.desc(), _own.device.desc())
    rows = connection.execute(last.offset(behind).limit(max(0, total - offset - behind)))
    return [Place(row.stage, row.device) for row in rows][::-1]


def _narrowed(rollout: str, wanted: Wanted) -> Select[Any]:
    """Places by an index, without a look at the text."""
    query = select(_own.stage, _own.device).where(_own.rollout == rollout)
    query = query.where(_HERE if wanted.standing is None else _own.standing == wanted.standing)
    if wanted.device:
        query = query.where(_own.device == wanted.device)
    if wanted.stage is not None:
        query = query.where(_own.stage == wanted.stage)
    return query
