"""What the parts of a running server share: made once in `serve.py`, handed to the app and the conductor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from edge_fleet.events import EventBus
from edge_fleet.store import Store


class Dispatch(Protocol):
    """Gets assignments to devices."""

    def soon(self, devices: Iterable[str]) -> None:
        """Publish the newest assignment of these devices, in order and paced; never waits."""


@dataclass(frozen=True)
class Services:
    """The parts of one server.

    Args:
        now_ms: The server's clock, Unix milliseconds.
    """

    store: Store
    bus: EventBus
    dispatch: Dispatch
    now_ms: Callable[[], int]
