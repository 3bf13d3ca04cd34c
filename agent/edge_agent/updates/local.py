"""Installing and going back at the device itself, while no daemon runs.

The same path as an assignment's: verified, admitted, staged, checked in a child process, switched on.
Only the trial on live inputs is missing, because without the daemon there are none: the golden inputs
in this process must do. A local install has no release counter, so it cannot be a downgrade, and it
raises no floor.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.errors import AgentError, InferenceFailed, NoLastGood, NotEnrolled, TrialFailed
from edge_agent.inference.golden import read_golden, run_golden
from edge_agent.inference.session import Session
from edge_agent.updates import installer
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.slots import Event, Held, Phase, Slot, Slots, Tell
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_agent.updates.withdrawing import require_standing
from edge_agent.worker import Then, Work
from edge_contracts.bundle import Bundle
from edge_contracts.errors import ContractError
from edge_contracts.keys import TrustedKeys


def install(home: Home, archive: Path, trusted: TrustedKeys | None = None) -> Slots:
    """Install a bundle; the caller holds the home's lock.

    Args:
        trusted: Publishers that count, the device's own among them; None for just those.

    Returns:
        The state afterwards: the bundle is confirmed, the one before is pinned.

    Raises:
        NotEnrolled: Nobody is trusted on this device yet.
        ContractError: The bundle is damaged, or nobody trusted has signed it.
        InstallRefused, TrialFailed: It must not or does not run here; what ran before still does.
    """
    bundle = open_for(home, archive, trusted)
    here = _Here(home, trusted)
    here.updater.start()
    if here.updater.slots.phase is not Phase.IDLE:
        here.updater.advance(Event.ROLLBACK)  # a candidate that waits for the daemon: superseded
    here.told.clear()
    if here.updater.slots.bundle_in(here.updater.slots.active) == bundle.digest:
        return here.updater.slots
    require_standing(here.updater.slots, bundle.digest)
    here.updater.stage(bundle, Held(bundle.digest))
    here.settle()
    return here.updater.slots


def roll_back(home: Home) -> Slots:
    """Go back to the last good bundle; the caller holds the home's lock.

    Raises:
        NoLastGood: There is none.
    """
    here = _Here(home, None)
    here.updater.start()
    require_last_good(here.updater.slots)
    here.updater.advance(Event.ROLLBACK)
    return here.updater.slots


def require_last_good(slots: Slots) -> None:
    """See that a rollback has something to do.

    Raises:
        NoLastGood: It has not.
    """
    if slots.phase is Phase.IDLE and slots.last_good is None:
        raise NoLastGood("there is no bundle to go back to: nothing was replaced since the last rollback")


def open_for(home: Home, archive: Path, trusted: TrustedKeys | None) -> Bundle:
    """Open a bundle that may be installed on this device; raises as `install`."""
    config = read_config(home)
    keys = trusted if trusted is not None else trusted_publishers(home, config)
    if not keys.keys:
        raise NotEnrolled("no publisher is trusted here; give --trust KEY, or enrol the device")
    bundle, verified = installer.open_verified(archive, keys)
    if config is not None:
        installer.admit(verified.manifest, config.profile, config.lineage)
    return bundle


class _Here:
    """An updater without a daemon: jobs run at once, a bundle is served by running its golden inputs."""

    def __init__(self, home: Home, trusted: TrustedKeys | None) -> None:
        config = read_config(home)
        self._home = home
        self._trusted = trusted or trusted_publishers(home, config)
        self.told: list[Tell] = []
        self.updater = Updater(home, Store(home), config, self._trusted, self, AtOnce(), Random())

    def settle(self) -> None:
        """Confirm what is on trial, or say why there is nothing to confirm."""
        if self.updater.slots.phase is Phase.TRIAL:
            self.updater.advance(Event.HEALTHY)
            return
        for tell in self.told:
            if tell.event in ("refused", "rolled-back"):
                raise TrialFailed(tell.code, f"not installed ({tell.code}): {tell.detail}")

    def serve(self, slot: Slot | None) -> Finding | None:
        """Open what is on trial and run its golden inputs; what is confirmed waits for the daemon."""
        slots = self.updater.slots
        if slot is None or slots.phase is not Phase.TRIAL:
            return None
        folder = self._home.slot(slot)
        try:
            verified = installer.verify_slot(self._home, slot, self._trusted, slots.bundle_in(slot))
            session = Session.open(folder, verified.manifest, slots.held[slot].choice)
            golden = read_golden(folder, verified.manifest, session.artifact.id)
            result = run_golden(session, golden)
            session.close()
        except (AgentError, InferenceFailed, ContractError) as error:
            return Finding(Verdict.UNHEALTHY, error.code, str(error))
        return None if result.passed else Finding(Verdict.UNHEALTHY, "golden-mismatch", result.reason)

    def tell(self, tell: Tell) -> None:
        """Remember what happened."""
        self.told.append(tell)

    def changed(self) -> None:
        """Nobody is listening."""


class AtOnce:
    """Does a job in the moment it is begun."""

    busy = False

    def begin(self, work: Work, then: Then) -> None:
        """Do it, and go on."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(lambda: False))
        except (AgentError, ContractError) as error:
            future.set_exception(error)
        then(future)

    def cancel(self) -> None:
        """Nothing is ever under way."""
