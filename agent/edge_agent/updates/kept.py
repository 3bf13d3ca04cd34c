"""What lies in a slot, asked of the disk once more before it is relied on."""

from __future__ import annotations

import logging

from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid
from edge_agent.updates import installer
from edge_agent.updates.assignment import Reuse
from edge_agent.updates.slots import Slot
from edge_contracts.errors import ContractError
from edge_contracts.keys import TrustedKeys

log = logging.getLogger(__name__)


def still_good(home: Home, decision: Reuse, trusted: TrustedKeys) -> bool:
    """Whether a slot holds its bundle as it should be, by a publisher that is trusted now."""
    try:
        installer.verify_slot(home, decision.slot, trusted, decision.held.bundle)
    except (ContractError, HomeInvalid) as error:
        log.warning("kept bundle is damaged", extra={"slot": decision.slot, "reason": str(error)})
        return False
    return True


def revoked_signer(home: Home, slot: Slot, trusted: TrustedKeys, bundle: str | None) -> str | None:
    """Id of the revoked key that signed what a slot holds, None when it is another."""
    if not trusted.revoked:
        return None
    try:
        found = installer.verify_slot(home, slot, trusted.ever, bundle)
    except (ContractError, HomeInvalid):
        return None  # damaged: whoever opens it next says so
    return found.key_id if found.key_id in trusted.revoked else None
