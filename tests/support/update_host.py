"""The host of an updater in tests: it does nothing and remembers what it was asked for."""

from __future__ import annotations

from edge_agent.updates.health import Finding
from edge_agent.updates.slots import Slot, Tell


class Host:
    """Remembers what it was asked to do; slots in `faults` cannot be served."""

    def __init__(self) -> None:
        self.served: list[Slot | None] = []
        self.told: list[Tell] = []
        self.changes = 0
        self.faults: dict[Slot, Finding] = {}

    def serve(self, slot: Slot | None) -> Finding | None:
        self.served.append(slot)
        return self.faults.get(slot) if slot is not None else None

    def tell(self, tell: Tell) -> None:
        self.told.append(tell)

    def changed(self) -> None:
        self.changes += 1

    def codes(self) -> list[tuple[str, str]]:
        return [(tell.event, tell.code) for tell in self.told]
