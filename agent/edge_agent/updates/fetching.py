"""Fetching what an assignment names: from where it lies, or over the network until it is here.

What arrives goes to the updater; why something has to wait, or is refused, becomes an event of the slots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Protocol

from edge_agent import sealed
from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home, discard
from edge_agent.errors import (
    AgentError,
    DownloadWaits,
    HomeInvalid,
    InstallRefused,
    NoSpace,
    RanFull,
    ServerBusy,
    ServerRefused,
    ServerUnreachable,
)
from edge_agent.updates import installer
from edge_agent.updates.budget import DataMeter
from edge_agent.updates.slots import Event, Fact, Held, Slots
from edge_agent.updates.surroundings import Barred, Jobs, Shadows
from edge_contracts.bundle import Bundle
from edge_contracts.errors import ContractError, DigestMismatch
from edge_contracts.keys import TrustedKeys
from edge_contracts.messages import Assignment
from edge_contracts.signing import verify

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
LONGEST_WAIT_S = 900.0  # a clock that is set meanwhile may end a wait
TELL_AFTER = 3  # attempts: a link that breaks now and then is nothing to tell
MAX_REFUSALS = 3  # a server that says no, or sends other bytes, is asked again this often


class Advance(Protocol):
    """How an event happens; see `updater.Updater.advance`."""

    def __call__(self, event: Event, fact: Fact | None = None) -> None:
        """Step, store, act."""


@dataclass(frozen=True)
class Ties:
    """What fetching needs of the updater.

    Args:
        slots, trusted: As they are now.
        advance: How an event happens.
        arrived: Takes a verified bundle that is for a slot, and its archive, which is to be removed, if any.
    """

    worker: Jobs
    random: Random
    slots: Callable[[], Slots]
    trusted: Callable[[], TrustedKeys]
    advance: Advance
    arrived: Callable[[Bundle, Held, Path | None], None]


class Fetching:
    """One download at a time; used from the agent's thread alone."""

    def __init__(
        self,
        home: Home,
        config: DeviceConfig | None,
        meter: DataMeter,
        shadows: Shadows | None,
        barred: Barred | None,
        ties: Ties,
    ) -> None:
        """Take the parts; nothing is fetched yet."""
        self._home, self._config, self._meter = home, config, meter
        self._shadows, self._barred, self._ties = shadows, barred, ties
        self._again: tuple[float, Assignment, Held] | None = None  # when, what
        self._under_way: tuple[Assignment, Held] | None = None
        self._attempts = self._refusals = 0

    @property
    def waits(self) -> bool:
        """Whether a download is to be tried again."""
        return self._again is not None

    def call_off(self) -> None:
        """Try nothing again."""
        self._again = None

    def begin_anew(self) -> None:
        """Forget what went wrong so far: another assignment counts."""
        self._again = None
        self._attempts = self._refusals = 0

    def tick(self, now_s: float) -> None:
        """Try again what is due."""
        if self._again is not None and now_s >= self._again[0]:
            _, assignment, held = self._again
            self._again = None
            self.fetch(assignment, held)

    def fetch(self, assignment: Assignment, held: Held) -> None:
        """Have what an assignment names brought, downloaded or from where it lies already."""
        config = self._config
        if config is None or assignment.archive is None:
            raise AssertionError("an assignment with an archive needs a fleet")
        self._under_way = (assignment, held)
        digest, size_bytes = assignment.archive, assignment.archive_bytes
        # a shadow takes neither slot, so none is emptied for it
        spare = self._ties.slots().spare
        freed_bytes = installer.size_bytes(self._home, spare) if assignment.shadow is None else 0

        def work(cancelled: Callable[[], bool]) -> tuple[Bundle, Path | None]:
            lying = self._lying(assignment.bundle)
            if lying is not None:
                installer.admit(verify(lying, self._ties.trusted()).manifest, config.profile, config.lineage)
                return lying, None
            from edge_agent.updates.download import fetch  # with HTTP and TLS: not before there is one

            url = f"{config.server}/{assignment.url_path.lstrip('/')}"
            folder, secret = self._home.downloads, config.mqtt_password
            archive = fetch(
                url,
                digest,
                size_bytes,
                folder,
                config.device,
                secret,
                config.server_ca,
                cancelled,
                meter=self._meter,
                freed_bytes=freed_bytes,
            )
            try:
                bundle, verified = installer.open_verified(archive, self._ties.trusted())
                _require_assigned(assignment, bundle)
                installer.admit(verified.manifest, config.profile, config.lineage)
            except OSError as error:
                raise HomeInvalid(f"cannot read {archive}: {error.strerror}") from None
            except (ContractError, AgentError):
                discard(archive)
                raise
            return bundle, archive

        self._ties.worker.begin(work, lambda future: self._fetched(future, assignment, held))

    def _lying(self, digest: str | None) -> Bundle | None:
        """A bundle that need not be downloaded: it is the last good one, or was a shadow."""
        if digest is None:
            return None
        if self._ties.slots().bundle_in(self._ties.slots().spare) == digest:
            try:
                return sealed.read_folder(self._home.slot(self._ties.slots().spare))
            except (ContractError, HomeInvalid, OSError) as error:
                log.warning("a slot is damaged", extra={"reason": str(error)})
        return self._shadows.lying(digest) if self._shadows is not None else None

    def _cast(self, bundle: Bundle, assignment: Assignment, held: Held, archive: Path | None) -> None:
        """Bring a verified bundle where it runs as a shadow; no slot is touched."""
        shadows, terms, slots = self._shadows, assignment.shadow, self._ties.slots()
        if shadows is None or terms is None:
            raise AssertionError("a shadow needs terms and a place")
        barred = partial(self._barred, bundle=bundle.digest) if self._barred is not None else None

        def brought(future: Future[None]) -> None:
            if isinstance(found := future.exception(), HomeInvalid | NoSpace):
                self.disk_failed(found)  # the archive stays: it is paid for
                return
            if archive is not None:
                discard(archive)
            try:
                future.result()
            except (AgentError, ContractError) as error:
                self._ties.advance(Event.REFUSED, Fact(code=error.code, detail=str(error)))
            else:
                self._ties.advance(Event.SHADOWED, Fact(held=held))

        self._ties.worker.begin(
            lambda _: shadows.bring(bundle, assignment.number, terms, slots, barred), brought
        )

    def _fetched(
        self, future: Future[tuple[Bundle, Path | None]], assignment: Assignment, held: Held
    ) -> None:
        try:
            bundle, archive = future.result()
        except DownloadWaits as error:
            self._wait(assignment, held, error, min(error.wait_s, LONGEST_WAIT_S))
        except ServerBusy as error:
            after_s = error.after_s if error.after_s is not None else LONGEST_PAUSE_S
            self._wait(assignment, held, error, after_s)
        except ServerUnreachable as error:
            self._later(assignment, held, error)
        except (HomeInvalid, RanFull) as error:
            self.disk_failed(error)
        except (ServerRefused, DigestMismatch) as error:
            self._refusals += 1
            if self._refusals < MAX_REFUSALS:
                self._later(assignment, held, error)
            else:
                self._ties.advance(Event.REFUSED, Fact(code=error.code, detail=str(error)))
        except (AgentError, ContractError) as error:
            self._ties.advance(Event.REFUSED, Fact(code=error.code, detail=str(error)))
        else:
            self._attempts = 0
            if assignment.shadow is not None:
                self._cast(bundle, assignment, held, archive)
            else:
                self._ties.arrived(bundle, held, archive)

    def disk_failed(self, error: HomeInvalid | NoSpace) -> None:
        """What was begun goes on when somebody has mended the disk or made room; told at once."""
        if self._under_way is None:
            raise AssertionError("nothing was under way that the disk could fail")
        self._later(*self._under_way, error)
        self._say_waiting(error)

    def _wait(self, assignment: Assignment, held: Held, error: AgentError, at_least_s: float) -> None:
        """Go on with a download later, not all devices at once; the server is told why it stands."""
        pause_s = (at_least_s + FIRST_PAUSE_S) * self._ties.random.uniform(1.0, 1.25)
        self._again = (monotonic() + pause_s, assignment, held)
        log.warning("download waits", extra={"in_s": round(pause_s, 1), "reason": str(error)})
        self._say_waiting(error)

    def _say_waiting(self, error: AgentError | ContractError) -> None:
        """Tell the server once for each reason why a download stands."""
        told = self._ties.slots().progress
        if told is None or told.code != error.code[:64]:
            self._ties.advance(Event.WAITING, Fact(code=error.code, detail=str(error)))

    def _later(self, assignment: Assignment, held: Held, error: AgentError | ContractError) -> None:
        """Try a download again after a while: longer each time, and not all devices at once."""
        doubled = FIRST_PAUSE_S * 2 ** min(self._attempts, 10)  # a server may be away for a thousand attempts
        pause_s = min(doubled, LONGEST_PAUSE_S) * self._ties.random.uniform(0.5, 1.5)
        self._attempts += 1
        self._again = (monotonic() + pause_s, assignment, held)
        log.warning("download to be continued", extra={"in_s": round(pause_s, 1), "reason": str(error)})
        if self._attempts >= TELL_AFTER:
            self._say_waiting(error)


def _require_assigned(assignment: Assignment, bundle: Bundle) -> None:
    """See that the archive holds what the assignment names.

    Raises:
        InstallRefused: It holds another bundle, whoever signed it.
    """
    manifest = bundle.manifest
    if bundle.digest != assignment.bundle:
        raise InstallRefused(f"the archive holds bundle {bundle.digest}, assigned is {assignment.bundle}")
    for found, wanted in ((manifest.name, assignment.name), (manifest.version, assignment.version)):
        if wanted is not None and found != wanted:
            raise InstallRefused(f"the archive holds {found}, assigned is {wanted}")
