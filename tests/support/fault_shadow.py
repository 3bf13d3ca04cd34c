"""An assigned shadow in a life, for the harness of faults: its steps, and what must hold after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.ordered import OrderedShadows, is_shadowing
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.slots import Phase, Slots
from edge_agent.updates.store import Store
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import FINAL_PHASES

if TYPE_CHECKING:
    from fault_device import Device

TERMS = ShadowTerms(memory_bytes=1 << 30)


def shadow(device: Device) -> None:
    """A bundle runs beside the one that answers."""
    device.assign(20, "5", 20, shadow=TERMS)
    assert is_shadowing(device.updater.slots)


def shadow_switched(device: Device) -> None:
    """It is switched to, from where it lies."""
    device.assign(21, "5", 20)
    device.updater.judged(Finding(Verdict.HEALTHY))
    assert OrderedShadows(device.life.home).settle(device.updater.slots)


def shadow_dropped(device: Device) -> None:
    """Another one, which is let go."""
    device.assign(22, "2", 22, shadow=TERMS)
    assert is_shadowing(device.updater.slots)
    device.keep_what_it_has(23)
    assert OrderedShadows(device.life.home).settle(device.updater.slots)


def told_shadow(home: Home, slots: Slots) -> str | None:
    """The shadow that the device says it runs."""
    found = OrderedShadows(home).wanted(slots)
    return found.shadow.bundle if found is not None else None


def faults_of(
    home: Home, known: Sequence[Mapping[str, Any]], ahead: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What is wrong with the shadow of a device that has started again."""
    slots, orders = Store(home).slots, OrderedShadows(home)
    standing, faults = told_shadow(home, slots), []
    if is_shadowing(slots) and (standing is None or orders.lying(standing) is None):
        faults.append("it says that a shadow runs which is not there")
    told = [mark.get("shadow") for mark in known if "snapshot" in mark][-1:]
    moved = any("snapshot" in mark for mark in ahead)
    if told and told[0] is not None and standing != told[0] and not moved:
        faults.append(f"the shadow {told[0]} is gone")
    if slots.phase is Phase.IDLE and (slots.progress is None or slots.progress.phase in FINAL_PHASES):
        assert orders.settle(slots)  # the daemon does so a second later
        named = {members.folder_of(home, digest).name for digest in settings.read_lineup(home).bundles}
        if standing is not None:
            named.add(members.folder_of(home, standing).name)
        parent = home.folder / "lineup"
        left = {path.name for path in parent.iterdir() if path.is_dir()} if parent.exists() else set()
        if left - named:
            faults.append(f"left beside the slots, named by nothing: {sorted(left - named)}")
    return faults
