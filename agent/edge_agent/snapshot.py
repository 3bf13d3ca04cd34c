"""Where the device stands at this moment: as the server is told it, and as a person at the device reads it.

Values in, values out. Who asks for it, and how it travels, is `reporter.py`'s and `witness.py`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent import installed
from edge_agent.device.config import DeviceConfig
from edge_agent.guard.steward import Open
from edge_agent.telemetry.mqtt import Link
from edge_agent.telemetry.witness import Facts
from edge_agent.updates.slots import Slots
from edge_contracts.messages import ActiveModel, DeviceState, Knows
from edge_contracts.succession import NextKey

if TYPE_CHECKING:
    from edge_agent.telemetry.outbox import Outbox
    from edge_agent.telemetry.reporter import Reporter


def agent_version() -> str:
    """Version of this distribution."""
    return installed.version("edgefleet")


def active_model(opened: Open | None) -> ActiveModel | None:
    """What answers now."""
    if opened is None:
        return None
    serving = opened.serving
    session = serving.session
    return ActiveModel(
        bundle=serving.bundle,
        name=session.manifest.name,
        version=session.manifest.version,
        artifact=session.artifact.id,
        runtime=session.runtime[:64],
        fallback=session.choice.fallback,
    )


def device_state(
    kind: str,
    config: DeviceConfig,
    n: int,
    outbox: Outbox,
    slots: Slots,
    opened: Open | None,
    now_ms: int,
    next_key: NextKey | None = None,
) -> DeviceState:
    """What a hello or a status says.

    Args:
        kind: "hello" or "status".
        n: Number of the snapshot, higher than any before.
    """
    return DeviceState.model_validate(
        {
            "type": kind,
            "device": config.device,
            "n": n,
            "epoch": outbox.epoch,
            "next_seq": outbox.next_seq,
            "agent": agent_version(),
            "profile": config.lineage,
            "counter": slots.floor,
            "active": active_model(opened),
            "progress": slots.progress,
            "time_ms": now_ms,
            "knows": tuple(Knows),
            "next_key": next_key,
            # what a director said that a publisher has replaced since is heard no longer
            "withdrawn": slots.withdrawn.n if slots.withdrawn and slots.era == config.era else 0,
            "obeys": config.obeys,
        }
    )


def facts(
    opened: Open | None, link: Link | None, reporter: Reporter | None, now_s: float, now_ms: int
) -> Facts:
    """What a person at the device may want to know.

    Args:
        now_s: By the monotonic clock.
    """
    return Facts(
        model=active_model(opened),
        model_since_ms=now_ms - int((now_s - opened.since_s) * 1000) if opened is not None else 0,
        trial=opened is not None and opened.trial,
        golden_agrees=opened is None or opened.golden_agrees,
        link_up=link is not None and link.is_up,
        link_reason=reporter.link_reason if reporter is not None else "",
        refused_since_ms=reporter.refused_since_ms if reporter is not None else 0,
        refusals=reporter.refusals if reporter is not None else 0,
        heard_ms=reporter.heard_ms if reporter is not None else 0,
        waiting=len(reporter.outbox) if reporter is not None else 0,
        waiting_bytes=reporter.outbox.size_bytes if reporter is not None else 0,
        dropped_records=reporter.outbox.dropped_records if reporter is not None else 0,
    )
