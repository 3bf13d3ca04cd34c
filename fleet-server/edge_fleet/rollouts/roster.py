"""The devices of one rollout as the last look found them: the next reads only what changed since.

Every change of an assignment takes the next number, in the transaction that makes it
(`orders.NEXT_CHANGE`), and whatever else a rollout sees of a device marks its assignments as well. A
device's last word is nobody's change, for it comes with every message: it is read again when a device
would count as silent by what is known of it. In memory only: a server that starts again reads everything.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from edge_fleet import orders
from edge_fleet.rollouts.company import Company
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.reached import Reached


class Roster:
    """What is known of a rollout's devices."""

    def __init__(self) -> None:
        """Know nothing."""
        self._silence_s = 0.0
        self._rows: dict[str, Reached] = {}
        self._company = Company()
        self._change: int | None = None  # the last that was seen
        self._silent: list[tuple[float, str]] = []  # a heap; a device may be in it more than once

    @property
    def rows(self) -> Mapping[str, Reached]:
        """The devices by id, as the last look found them."""
        return self._rows

    def look(self, connection: Connection, rollout: str, silence_s: float, now_s: float) -> Company:
        """The devices as they are now.

        Args:
            silence_s: As the plan has it.
        """
        self._silence_s = silence_s
        change = orders.last_change(connection)
        if self._change is None or change < self._change:  # another database stands there, older than ours
            every = {row.device: row for row in load_members(connection, rollout)}
            self._replace(every, [device for device in self._rows if device not in every])
        elif change != self._change:
            changed = orders.changed_since(connection, self._change)
            found = {row.device: row for row in load_members(connection, rollout, changed)}
            self._replace(found, (device for device in changed if device not in found))
        self._change = change
        self._company.suspects = self._suspects(connection, rollout, now_s)
        return self._company

    def _replace(self, found: dict[str, Reached], gone: Iterable[str]) -> None:
        known = len(self._rows)
        left = [device for device in gone if self._rows.pop(device, None) is not None]
        moved = {device: row for device, row in found.items() if self._rows.get(device) != row}
        if not moved and not left:
            return
        self._rows |= moved
        if len(self._rows) != known:  # a new one; those that are known keep their place
            in_order = sorted(self._rows.values(), key=lambda row: (row.member.stage, row.device))
            self._rows = {row.device: row for row in in_order}
        self._company = Company(self._rows.values())
        for row in moved.values():
            self._wait_for(row)

    def _wait_for(self, row: Reached) -> None:
        at_s = row.silent_at_s(self._silence_s)
        if at_s < math.inf:
            heapq.heappush(self._silent, (at_s, row.device))

    def _suspects(self, connection: Connection, rollout: str, now_s: float) -> tuple[Reached, ...]:
        """Those that would be silent by now, asked again when they were last heard."""
        names = set()
        while self._silent and self._silent[0][0] < now_s:
            device = heapq.heappop(self._silent)[1]
            row = self._rows.get(device)
            if row is not None and row.silent_at_s(self._silence_s) < now_s:
                names.add(device)
        found = load_members(connection, rollout, sorted(names)) if names else []
        for row in found:
            self._wait_for(row)
        self._replace({row.device: row for row in found}, names - {row.device for row in found})
        return tuple(found)
