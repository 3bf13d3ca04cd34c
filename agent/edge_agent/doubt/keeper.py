"""The agent's side of the lineup: opens what the documents name, and tells what came of it.

Runs in the agent's thread. A member that cannot be opened, or does not fit the active model, is left
out and reported: the active model answers all the same. Should the whole agent die again and again
with members beside the active model, it goes on without them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.labelling import Feedback
from edge_agent.doubt.lineup import Experiment, Lineup, Members
from edge_agent.doubt.ordered import OrderedShadows, is_shadowing
from edge_agent.doubt.outbound import Outbound, Sender
from edge_agent.doubt.reviewer import Reviewer
from edge_agent.doubt.settings import (
    LAST_GOOD,
    LineupSettings,
    OrderedShadow,
    ReviewSettings,
    ShadowSettings,
)
from edge_agent.doubt.shelf import Shelf
from edge_agent.errors import AgentError, HomeInvalid
from edge_agent.inference.engine import Engine
from edge_agent.inference.serving import Serving
from edge_agent.runtimes.choice import Choice, choose, options
from edge_agent.updates.slots import WITHDRAWN, Slots, Tell
from edge_agent.updates.withdrawing import require_standing
from edge_contracts.errors import ContractError
from edge_contracts.keys import TrustedKeys
from edge_contracts.lineup import Role
from edge_contracts.manifest import Manifest
from edge_contracts.messages import Window

if TYPE_CHECKING:  # loaded when there is one
    from edge_agent.doubt.shadow import ShadowRunner

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at the documents
LASTED_S = 60.0  # a start with members that has lasted so long has not failed


@dataclass(frozen=True)
class Seat:
    """A place in the lineup and the bundle that should sit there.

    Args:
        folder: Where its bundle lies.
        choice: How to run it; None chooses the first way that is here.
    """

    role: Role
    digest: str
    folder: Path
    choice: Choice | None
    experiment: str = ""


class Keeper:
    """The lineup of one device.

    Args:
        trusted: Whose bundles count now.
        tell: Takes what goes into the telemetry as an event.
        keep: Takes windows of models that are gone.
    """

    def __init__(
        self,
        home: Home,
        trusted: Callable[[], TrustedKeys],
        tell: Callable[[Tell], None],
        keep: Callable[[Window], None],
        threads: int = 1,
    ) -> None:
        """Take the parts; nothing is opened before the first `tick`."""
        self._home, self._trusted, self._tell, self._keep, self._threads = home, trusted, tell, keep, threads
        self._shelf, self._orders = Shelf(home), OrderedShadows(home)
        self.book = self._shelf.load()
        self.lineup = Lineup(self.book)
        # until the document is read, and where it cannot be: it may say that nothing must be kept
        self.reviewer = Reviewer.of(home, ReviewSettings(keep=False))
        self._is_settled = False
        self.feedback = Feedback(self.book, self.reviewer, self._manifest_of)
        self.lineup.watch(self.reviewer, None)
        self._active: Serving | None = None
        self._members = Members()
        self._shadow: ShadowRunner | None = None
        self.sender: Sender | None = None  # of an enrolled device
        self._outbound: Outbound | None = None
        self._sent_by = ReviewSettings()
        self._shadowed: ShadowSettings | None = None
        self._settings = LineupSettings()
        self._seen: Any = None
        self._next_look_s = 0.0
        self._lasts_at_s: float | None = None
        self._alone = False
        self._ordered: OrderedShadow | None = None
        self._slots = Slots()
        self._to_settle = True
        self.gave_up: Callable[[str, str], None] = lambda code, detail: None  # of the assigned shadow

    def tick(self, now_s: float, engine: Engine, slots: Slots) -> None:
        """Do what is due: read documents that changed, open and close members, tell what was found out."""
        for bundle in self.book.take_accused():
            self._tell(
                Tell(
                    "confidence-overstated", bundle, code="overstated", detail="labels show it to be too high"
                )
            )
        reason = self._shadow.take_told() if self._shadow is not None else ""
        if reason:
            log.warning("shadow stopped", extra={"reason": reason})
            self._tell(Tell("shadow-stopped", self._shadowed.bundle if self._shadowed else None, code=reason))
            if self._ordered is not None and self._shadowed == self._ordered.shadow:
                self.gave_up(reason, "the assigned shadow was stopped")
        if self._lasts_at_s is not None and now_s >= self._lasts_at_s:
            self._lasts_at_s = None
            self._note_starts(0)
        if self._is_settled:  # the document says whether anything may be kept
            self._shelf.tick(now_s, self.book, self.reviewer.keeps)
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_S
        self._active = engine.serving
        seen = (
            settings.stamp(settings.lineup_path(self._home)),
            settings.stamp(settings.review_path(self._home)),
            self._active.bundle if self._active is not None else None,
            slots.bundle_in(slots.last_good),
            settings.stamp(settings.ordered_path(self._home)),
            slots.number,
            slots.progress,
            slots.withdrawn,
        )
        self._slots = slots
        if self._to_settle:
            self._to_settle = not self._orders.settle(slots)
        if seen != self._seen:
            self._seen, self._to_settle = seen, True
            self._read()
            self._ordered = self._orders.wanted(slots)
            if self._ordered is None and is_shadowing(slots):
                self.gave_up("shadow-lost", "the document about the assigned shadow is gone or damaged")
            self._seat(now_s, engine, slots)
            self._cast_shadow(engine)

    def send_as(self, sender: Sender) -> None:
        """Sign what is sent for review with another key from now on."""
        self.sender = sender
        if self._outbound is not None:  # it goes on with the new one
            review, self._sent_by = self._sent_by, ReviewSettings()
            self._send_by(review)

    def windows(self, engine: Engine) -> list[Window]:
        """The windows of all but the active model."""
        found = engine.cut_others()
        opened = (self._active, *self._members.servings)
        bundles = frozenset(serving.bundle for serving in opened if serving is not None)
        return found + self.book.late(max(0, int(time() * 1000)), bundles)

    def stop(self, engine: Engine) -> None:
        """Close everything; what was counted is handed over first."""
        for window in engine.change(Members()):
            self._keep(window)
        self._members = Members()
        if self._shadow is not None:
            self._shadow.stop()
        if self._outbound is not None:
            self._outbound.stop()
        self.reviewer.stop()
        self._shelf.store(self.book)
        if self._lasts_at_s is not None:  # an end in good order is no failure
            self._note_starts(0)

    def _read(self) -> None:
        """Take the documents as they are now; what cannot be read leaves things as they are."""
        try:
            review = settings.read_review(self._home)
            self.reviewer.change(review)
            self._is_settled = True
            self._send_by(review)
        except HomeInvalid as error:
            self._refuse("lineup-unreadable", None, error)
        try:
            self._settings = settings.read_lineup(self._home)
        except HomeInvalid as error:
            self._refuse("lineup-unreadable", None, error)

    def _send_by(self, review: ReviewSettings) -> None:
        """Start, change or end the upload of kept inputs, as the document will have it."""
        if review == self._sent_by:
            return
        self._sent_by = review
        if self._outbound is not None:
            self._outbound.stop()
            self._outbound = None
        if review.upload_to and self.sender is not None:
            ledger = self._home.folder / "review.sent.json"
            self._outbound = Outbound(self.reviewer.ring, ledger, review, self.sender)
            self._outbound.start()
            self._tell(Tell("review-upload-allowed", detail=f"{review.bytes_per_day} bytes a day"))

    def _seat(self, now_s: float, engine: Engine, slots: Slots) -> None:
        """Bring the members in line with the documents and the active model."""
        seats = self._seats(slots) if self._active is not None else ()
        if seats and self._lasts_at_s is None and not self._alone and not self._members.servings:
            self._alone = self._has_failed_often(now_s)
        kept = {(s.part.role, s.bundle, s.part.experiment): s for s in self._members.servings}
        opened: dict[Role, Serving] = {}
        for seat in () if self._alone else seats:
            serving = kept.get((seat.role, seat.digest, seat.experiment))
            # another one may be active now, and this one withdrawn
            if serving is None or slots.is_withdrawn(seat.digest) or not self._fits(serving.session.manifest):
                serving = self._open(seat)
            if serving is not None:
                opened[seat.role] = serving
        self._members = self._as_members(opened)
        for window in engine.change(self._members):
            self._keep(window)

    def _cast_shadow(self, engine: Engine) -> None:
        """Start, replace or end the shadow, as the document and the active model will have it."""
        ordered = self._ordered.shadow if self._ordered is not None else None
        wanted, active = ordered or self._settings.shadow, self._active  # a person's waits meanwhile
        if active is None or (wanted is not None and wanted.bundle == active.bundle):
            wanted = None
        if wanted is not None and self._slots.is_withdrawn(wanted.bundle):
            if ordered is not None:
                self.gave_up(WITHDRAWN, self._slots.why_withdrawn)
            wanted = None
        shadow = self._shadow
        if shadow is not None and wanted == self._shadowed and self._fits(shadow.candidate.verified.manifest):
            return
        before, self._shadow, self._shadowed = self._shadow, None, None
        if wanted is not None and active is not None:
            self._shadow = self._candidate(wanted, active.session.manifest)
            self._shadowed = wanted if self._shadow is not None else None
        if before is self._shadow:
            return
        engine.between(lambda: self.lineup.watch(self.reviewer, self._shadow))
        if before is not None:
            before.stop()
        if self._shadow is not None:
            self._shadow.start()
            self._tell(Tell("shadow-started", self._shadow.candidate.verified.digest))

    def _candidate(self, wanted: ShadowSettings, active: Manifest) -> ShadowRunner | None:
        from edge_agent.doubt.shadow import Candidate, ShadowRunner
        from edge_agent.doubt.shadow_budget import Budget

        folder = members.folder_of(self._home, wanted.bundle)
        try:
            verified = members.verify_folder(folder, wanted.bundle, self._trusted().standing)
            members.require_same_contract(active, verified.manifest)
            ordered = self._ordered
            if ordered is not None and ordered.shadow == wanted:
                choice = members.as_choice(ordered.choice)
            else:
                choice = members.choice_of(self._settings, wanted.bundle) or choose(
                    options(verified.manifest)
                )
        except (AgentError, ContractError) as error:
            self._refuse("lineup-refused", wanted.bundle, error)
            if self._ordered is not None and self._ordered.shadow == wanted:
                self.gave_up(error.code, str(error))
            return None
        budget = Budget(wanted.cpu_share, wanted.memory_bytes, wanted.latency_ms)
        candidate = Candidate(folder, verified, choice, wanted.per_mille, budget)
        return ShadowRunner(candidate, self.reviewer.keep_now)

    def _has_failed_often(self, now_s: float) -> bool:
        """Note a start with members; whether too many of them have not lasted."""
        failed = members.failed_starts(self._home)
        if failed >= members.MAX_STARTS:
            detail = f"the agent died {failed} times with them; edge-agent lineup set tries again"
            log.error("lineup set aside", extra={"reason": detail})
            self._tell(Tell("lineup-set-aside", code="crash", detail=detail))
            return True
        self._note_starts(failed + 1)
        self._lasts_at_s = now_s + LASTED_S
        return False

    def _seats(self, slots: Slots) -> tuple[Seat, ...]:
        stated, found = self._settings, []
        if stated.experiment is not None:
            found.append(self._seat_of("arm-b", stated.experiment.bundle, stated.experiment.name))
        if stated.second == LAST_GOOD:
            slot, digest = slots.last_good, slots.bundle_in(slots.last_good)
            if slot is not None and digest is not None:
                found.append(Seat("second", digest, self._home.slot(slot), slots.held[slot].choice))
        elif stated.second is not None:
            found.append(self._seat_of("second", stated.second))
        return tuple(seat for seat in found if self._active is None or seat.digest != self._active.bundle)

    def _seat_of(self, role: Role, digest: str, experiment: str = "") -> Seat:
        choice = members.choice_of(self._settings, digest)
        return Seat(role, digest, members.folder_of(self._home, digest), choice, experiment)

    def _open(self, seat: Seat) -> Serving | None:
        active = self._active
        try:
            require_standing(self._slots, seat.digest)
            verified = members.verify_folder(seat.folder, seat.digest, self._trusted().standing)
            if active is not None:
                members.require_same_contract(active.session.manifest, verified.manifest)
            serving = members.open_member(
                seat.folder, verified, seat.choice, seat.role, seat.experiment, self._threads
            )
        except (AgentError, ContractError) as error:
            self._refuse("lineup-refused", seat.digest, error)
            return None
        log.info("opened beside the active model", extra={"role": seat.role, "bundle": seat.digest})
        self._tell(Tell("lineup-opened", seat.digest, detail=seat.role))
        return serving

    def _fits(self, other: Manifest) -> bool:
        return self._active is None or not members.differs(self._active.session.manifest, other)

    def _as_members(self, opened: dict[Role, Serving]) -> Members:
        experiment, arm_b = self._settings.experiment, opened.get("arm-b")
        running = None
        if experiment is not None and arm_b is not None:
            running = Experiment(experiment.name, arm_b, experiment.per_mille)
        return Members(opened.get("second"), running)

    def _refuse(self, event: str, bundle: str | None, error: AgentError | ContractError) -> None:
        log.error("left out of the lineup", extra={"bundle": bundle or "", "reason": str(error)})
        self._tell(Tell(event, bundle, code=error.code, detail=str(error)))

    def _note_starts(self, failed: int) -> None:
        try:
            members.note_starts(self._home, failed)
        except HomeInvalid as error:
            log.error("start not noted", extra={"reason": str(error)})

    def _manifest_of(self, bundle: str) -> Manifest | None:
        for serving in (self._active, *self._members.servings):
            if serving is not None and serving.bundle == bundle:
                return serving.session.manifest
        return None
