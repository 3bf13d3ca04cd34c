"""Who may be begun now in a stage, and what the others wait for. Pure; a part of what `engine.py` decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from edge_fleet.assignment import State
from edge_fleet.rollouts import targets
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import BEGINNING
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.retries import Cause
from edge_fleet.rollouts.targets import Alike
from edge_fleet.rollouts.windows import LABEL, closes_at

if TYPE_CHECKING:
    from edge_fleet.rollouts.engine import View

WINDOW, PACE = "its maintenance window", "the rate or the devices in flight"  # that devices wait for


@dataclass(frozen=True)
class Begin:
    """A device that is given the release.

    Args:
        cause: Of the attempt before, when this is a retry.
        expires_s: When its maintenance window closes; None without windows.
        part: For what it is given it.
    """

    device: str
    bundle: str
    cause: Cause | None = None
    expires_s: float | None = None
    part: Part = Part.SWITCH


@dataclass(frozen=True)
class Begun:
    """Who may be begun now, what the others wait for, and how many can do nothing before the switch.

    Args:
        left: The rollouts to which devices of the stage are left, and how many.
    """

    begin: tuple[Begin, ...] = ()
    waits: Counter[str] = field(default_factory=Counter)
    direct: int = 0
    left: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """To whom devices are left, for people; "" when none are."""
        return "".join(
            f"; {count} left to rollout {other}, which comes first and waits for this one"
            for other, count in sorted(self.left.items())
        )


def begin(view: View, now_s: float, due: Callable[[], Sequence[Alike]]) -> Begun:
    """Who may be begun: devices to be switched, or tried again, then those that the stage has still to reach.

    While a stage bakes its devices have been counted: no other is begun.
    """
    begun = Begun()
    at_once, wanted = _known(view, now_s, begun)
    fresh, closing, direct = _fresh(view, now_s, due, begun)
    total = len(wanted) + sum(some.count for some in fresh)
    allowed = _allowance(view, now_s, total)
    begin_now = [*at_once, *wanted[:allowed]]
    for target in islice(targets.in_turn(fresh), max(0, allowed - len(wanted))):
        assert target.bundle is not None, f"{target.device} is due and gets nothing"
        expires_s = closing[target.labels.get(LABEL)]
        begin_now.append(Begin(target.device, target.bundle, expires_s=expires_s, part=view.position.part))
    if total > allowed:
        begun.waits[PACE] += total - allowed
    return replace(begun, begin=tuple(begin_now), direct=direct)


def _known(view: View, now_s: float, begun: Begun) -> tuple[list[Begin], list[Begin]]:
    """Devices that were reached and are to be switched, or tried again: all at once, and at the plan's pace.

    Args:
        begun: Is told what the others wait for.
    """
    at_once: list[Begin] = []
    paced: list[Begin] = []
    for row, again in view.to_begin:
        if again is None:
            one = Begin(row.device, row.member.bundle)
            # what is ready downloads nothing any more: one order to all
            among = at_once if row.part is Part.READY else paced
        elif row.due_s(view.plan.retries) > now_s:
            begun.waits[f"a retry after {row.member.code}"] += 1
            continue
        else:
            one, among = Begin(row.device, row.member.bundle, again[0], part=again[1]), paced
        is_open, expires_s = _hours(view.plan, row.labels, now_s)
        if is_open:
            among.append(replace(one, expires_s=expires_s))
        else:
            begun.waits[WINDOW] += 1
    return at_once, paced


def _fresh(
    view: View, now_s: float, due: Callable[[], Sequence[Alike]], begun: Begun
) -> tuple[list[Alike], dict[str | None, float | None], int]:
    """Devices that the stage has still to reach and may: alike ones, when the window of each zone closes.

    Args:
        begun: Is told what the others wait for, and to whom they are left.

    Returns:
        And how many can do nothing before the switch.
    """
    fresh: list[Alike] = []
    closing: dict[str | None, float | None] = {}
    direct = 0
    for some in due() if view.position.phase in BEGINNING else ():
        like = some.like
        is_open, expires_s = _hours(view.plan, like.labels, now_s)
        if like.unable and view.position.part is not Part.SWITCH:
            direct += some.count
        elif like.left_to:
            begun.left[like.left_to] += some.count
        elif like.wait:
            begun.waits[like.wait] += some.count
        elif is_open:
            fresh.append(some)
            closing[like.labels.get(LABEL)] = expires_s
        else:
            begun.waits[WINDOW] += some.count
    return fresh, closing, direct


def _allowance(view: View, now_s: float, wanted: int) -> int:
    """How many of those that want to be begun the plan's rate and its bound of devices in flight allow."""
    plan, allowed = view.plan, wanted
    if plan.rate is not None:
        confirmed = sum(row.member.state is State.CONFIRMED for row in view.counted)
        allowed = min(allowed, plan.rate.allowance(view.begun_s, confirmed, now_s))
    if plan.max_in_flight is not None:
        in_flight = sum(row.in_flight for row in view.counted)
        allowed = max(0, min(allowed, plan.max_in_flight - in_flight))
    return allowed


def _hours(plan: RolloutPlan, labels: targets.Labels, now_s: float) -> tuple[bool, float | None]:
    """Whether a device may be begun now by its maintenance windows, and when the one that is open closes."""
    if not plan.windows:
        return True, None
    expires_s = closes_at(plan.windows, labels, plan.time_zone, now_s)
    return expires_s is not None, expires_s
