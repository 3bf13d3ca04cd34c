"""Keeping the drift monitor of the active model: over restarts, and from one model to the next.

`monitor.py` decides; here its state is read, stored and told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.device.home import Home, write_durably
from edge_agent.drift.monitor import Monitor, State
from edge_agent.drift.schedule import PER_MONTH
from edge_agent.errors import HomeInvalid
from edge_agent.inference.serving import Serving
from edge_agent.updates.slots import Tell
from edge_contracts.errors import ContractError
from edge_contracts.manifest import Manifest
from edge_contracts.messages import Window
from edge_contracts.model import canonical_json, parse_json

log = logging.getLogger(__name__)

STORE_S = 900.0  # what a power cut may lose of a span; flash wears with each store


class DriftWatch:
    """The monitor of what is served now, if anything is.

    Args:
        tell: Puts an event into the telemetry.
        per_month: False alarms that a month may have; 0 watches nothing.
    """

    def __init__(self, home: Home, tell: Callable[[Tell], None], per_month: float = PER_MONTH) -> None:
        """Watch nothing yet."""
        self._home, self._tell, self._per_month = home, tell, per_month
        self._monitor: Monitor | None = None
        self._stored_s: float | None = None

    def serve(self, manifest: Manifest, bundle: str, artifact: str) -> None:
        """Watch a model from now on; one that was watched before goes on where it was."""
        if self._per_month <= 0 or (self._monitor is not None and self._monitor.state.bundle == bundle):
            return
        self._monitor = Monitor(manifest, bundle, artifact, self._per_month, read_state(self._home))

    def judged(self, window: Window, serving: Serving | None, now_s: float) -> Window:
        """The window with what the device makes of it, by what answers now."""
        if serving is not None:
            session = serving.session
            self.serve(session.manifest, serving.bundle, session.artifact.id)
        return self.count(window, now_s)

    def count(self, window: Window, now_s: float) -> Window:
        """Judge with a window, and tell what is new.

        Args:
            now_s: Monotonic.

        Returns:
            The window with what drifts; another model's as it came.
        """
        monitor = self._monitor
        if monitor is None or window.bundle != monitor.state.bundle:
            return window
        changes = monitor.add(window)
        for change in changes:
            event = "drift-began" if change.began else "drift-ended"
            told = log.warning if change.began else log.info
            told(event, extra={"code": change.kind, "detail": change.detail})
            self._tell(Tell(event, window.bundle, None, change.kind, change.detail))
        if changes or self._stored_s is None or now_s - self._stored_s >= STORE_S:
            self.store(now_s)
        return window.model_copy(update={"drifting": tuple(monitor.state.drifting)})

    def store(self, now_s: float) -> None:
        """Keep the state for the next start; a disk that is full costs that and no more."""
        if self._monitor is None:
            return
        self._stored_s = now_s
        try:
            write_durably(self._home.drift, canonical_json(self._monitor.state))
        except HomeInvalid as error:
            log.warning("drift is not stored", extra={"reason": str(error)})


def read_state(home: Home) -> State | None:
    """What was stored; None when there is nothing, or nothing that can be read."""
    try:
        return parse_json(State, home.drift.read_bytes(), home.drift.name, "edgefleet.drift/1")
    except (OSError, ContractError):
        return None
