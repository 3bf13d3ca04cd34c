"""A shadow that the server has assigned: brought beside the slots, named by a document, and let go again.

    HOME/lineup/<digest>/     the bundle, where members of the lineup lie; neither slot is touched for it
    HOME/shadow.json          which it is, by which assignment, and on what terms

The folder is there whole before the document names it, and the document before the state says "shadow"
(`slots.Event.SHADOWED`); so a power cut leaves an assignment that is answered anew, from what lies here
already. It runs while its assignment is the newest and stands at "shadow". The one that switches to the same
bundle takes it from here instead of the network. Once whatever came after it is settled, it is removed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent import sealed
from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.settings import OrderedShadow, ShadowSettings
from edge_agent.errors import HomeInvalid, InstallRefused
from edge_agent.runtimes.choice import Option
from edge_agent.updates.slots import Phase, Slots
from edge_agent.updates.trial import Limits
from edge_contracts.bundle import Bundle
from edge_contracts.errors import ContractError
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import FINAL_PHASES
from edge_contracts.messages import Phase as Report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OrderedShadows:
    """The assigned shadow of one device."""

    home: Home

    def lying(self, digest: str) -> Bundle | None:
        """The bundle of this digest if it lies here whole; its signature is still to be verified."""
        folder = members.folder_of(self.home, digest)
        if not folder.exists():
            return None
        try:
            found = sealed.read_folder(folder)
        except (ContractError, OSError, HomeInvalid) as error:
            log.warning("a bundle beside the slots is damaged", extra={"reason": str(error)})
            return None
        return found if found.digest == digest else None

    def bring(
        self,
        bundle: Bundle,
        number: int,
        terms: ShadowTerms,
        slots: Slots,
        barred: Callable[[Mapping[Option, str]], Mapping[Option, str]] | None = None,
    ) -> None:
        """Put a verified bundle where it can run as a shadow, after a trial in a child process; durable.

        Args:
            number: Of the assignment.
            slots: Where the device stands: what answers there is what it must be like.

        Raises:
            InstallRefused, ContractDiffers: Nothing answers that it could run beside, or something else.
            TrialFailed: It does not run here as it should.
            NoSpace, HomeInvalid: The disk is full or failed.
        """
        if slots.active is None or slots.active not in slots.held:
            raise InstallRefused("nothing answers here that a shadow could run beside")
        active = sealed.read_folder(self.home.slot(slots.active)).manifest
        with settings.alone(self.home):
            if self.lying(bundle.digest) is None:
                shutil.rmtree(members.folder_of(self.home, bundle.digest), ignore_errors=True)
            limits = Limits(memory_bytes=terms.memory_bytes)
            brought = members.put(self.home, bundle, active, limits, barred)
            shadow = ShadowSettings(bundle=bundle.digest, **terms.model_dump())
            choice = members.as_settings(brought.choice)
            ordered = OrderedShadow(assignment=number, shadow=shadow, choice=choice)
            settings.store_ordered(self.home, ordered)

    def wanted(self, slots: Slots) -> OrderedShadow | None:
        """The shadow that is to run now."""
        found = settings.read_ordered(self.home)
        return found if found is not None and _stands(slots, found.assignment) else None

    def settle(self, slots: Slots) -> bool:
        """Remove a shadow whose time is over, and folders that nothing names; whether that is done.

        Nothing is touched while an assignment is on its way, which may need what lies here.
        """
        told = slots.progress
        if slots.phase is not Phase.IDLE or (told is not None and told.phase not in FINAL_PHASES):
            return True  # what comes of it is another call
        try:
            with settings.alone(self.home, wait=False):
                found = settings.read_ordered(self.home)
                if found is not None and not _stands(slots, found.assignment):
                    settings.drop_ordered(self.home)
                members.tidy(self.home, settings.read_lineup(self.home))
        except BlockingIOError:
            return False  # a command is at work there
        except (HomeInvalid, OSError) as error:
            log.error("shadow not put away", extra={"reason": str(error)})
        return True


def is_shadowing(slots: Slots) -> bool:
    """Whether the newest assignment says that a shadow runs."""
    return slots.progress is not None and slots.progress.phase is Report.SHADOW


def _stands(slots: Slots, assignment: int) -> bool:
    return is_shadowing(slots) and slots.number == assignment
