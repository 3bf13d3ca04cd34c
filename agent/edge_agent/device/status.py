"""What `edge-agent status` shows (`page.py`): where the device stands, read from its files.

Works while the daemon runs (and then says so): everything is read, nothing locked, and nothing written but a
file without a name that shows whether the disk takes one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from dataclasses import dataclass
from time import time
from typing import Any

from edge_agent import sealed
from edge_agent.device.config import DeviceConfig, read_config, read_device_key
from edge_agent.device.home import Home
from edge_agent.device.mending import faults
from edge_agent.device.writable import why_unwritable
from edge_agent.doubt.settings import described_in
from edge_agent.errors import HomeInvalid
from edge_agent.guard.quarantine import GuardStore
from edge_agent.telemetry import standing as standing_file
from edge_agent.updates.budget import at, read_used
from edge_agent.updates.room import NAME as ROOM
from edge_agent.updates.slots import Slot, Slots
from edge_agent.updates.store import Store
from edge_contracts.bundle import MANIFEST
from edge_contracts.errors import ContractError
from edge_contracts.manifest import FORMAT, Manifest
from edge_contracts.model import parse_json


@dataclass(frozen=True)
class OutboxDepth:
    """How much telemetry waits for the server's ack.

    Args:
        waiting: Envelopes that have been sealed, and records that have no number yet.
    """

    epoch: str
    next_seq: int
    acknowledged: int
    waiting: int
    waiting_bytes: int
    dropped_records: int


def read_status(home: Home) -> dict[str, Any]:
    """Everything, as one object for a program."""
    config, identity = read_identity(home)
    store = Store(home)
    slots, depth, standing = store.slots, read_depth(home), standing_file.read(home)
    return {
        "home": str(home.folder),
        "device": config.device if config else None,
        "fleet": config.fleet if config else None,
        "server": config.server if config else None,
        "profile": list(config.lineage) if config else None,
        "agent_process": home.holder(),
        "phase": slots.phase,
        "active": _bundle(home, slots, slots.active),
        "candidate": _bundle(home, slots, slots.candidate),
        "last_good": _bundle(home, slots, slots.last_good),
        "beside": described_in(home),
        "counter": slots.floor,
        "emptied": slots.emptied if slots.active is None else "",
        "assignment": slots.progress.model_dump(mode="json") if slots.progress else None,
        "downloads": _downloads(home),
        "outbox": vars(depth) if depth else None,
        "standing": standing.model_dump(mode="json", exclude={"format"}) if standing else None,
        "space": _space(home),
        "fault": store.lost,
        "identity": identity,
        "guard": GuardStore(home).record.model_dump(mode="json", exclude={"format"}),
    }


def read_identity(home: Home) -> tuple[DeviceConfig | None, str]:
    """The enrolment, and what is wrong with the files that say who this device is, "" for nothing.

    Raises:
        HomeInvalid: They are another user's, or the folder another program's.
    """
    home.require_ours()
    config = None
    try:
        config = read_config(home)
        if config is not None and not home.next_key.exists():  # a change of key is the agent's to finish
            read_device_key(home, config)
    except HomeInvalid as error:
        if not _may_read(home):
            raise
        return config, str(error)
    return config, next((f"{fault} (its copy counts)" for fault in faults(home)), "")


def _may_read(home: Home) -> bool:
    files = (home.folder, home.config, home.key)
    return all(os.access(path, os.R_OK, effective_ids=True) for path in files if path.exists())


def read_depth(home: Home) -> OutboxDepth | None:
    """How full the outbox is; None when there is none, or it cannot be read now."""
    if not home.outbox.exists():
        return None
    try:
        db = sqlite3.connect(f"{home.outbox.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            epoch, next_seq, acked, dropped = db.execute(
                "SELECT epoch, next_seq, acked, dropped_records FROM head"
            ).fetchone()
            waiting, size = db.execute(
                "SELECT count(*), coalesce(sum(length(envelope)), 0) FROM envelopes"
            ).fetchone()
            records, records_size = db.execute(
                "SELECT count(*), coalesce(sum(length(record)), 0) FROM pending"
            ).fetchone()
        finally:
            db.close()
    except (sqlite3.Error, TypeError, UnicodeDecodeError):  # a damaged schema is quoted as it is
        return None
    return OutboxDepth(epoch, next_seq, acked, waiting + records, size + records_size, dropped)


def _downloads(home: Home) -> dict[str, Any]:
    """What downloads have used, what has come of the next one and what is kept free for it, in bytes."""
    used = at(read_used(home.data_used), time())
    part = sum(path.stat().st_size for path in home.downloads.glob("*.part"))
    room = sum(path.stat().st_size for path in home.downloads.glob(ROOM))
    return {
        "day_bytes": used.day_bytes,
        "month_bytes": used.month_bytes,
        "part_bytes": part,
        "reserved_bytes": room,
    }


def _space(home: Home) -> dict[str, int | str] | None:
    try:
        disk = shutil.disk_usage(home.folder)
    except OSError:
        return None
    return {"free_bytes": disk.free, "total_bytes": disk.total, "unwritable": why_unwritable(home.folder)}


def _bundle(home: Home, slots: Slots, slot: Slot | None) -> dict[str, Any] | None:
    digest = slots.bundle_in(slot)
    if slot is None or digest is None:
        return None
    held = slots.held[slot]
    encrypted = any(home.slot(slot).rglob(f"*{sealed.SUFFIX}"))
    shown: dict[str, Any] = {"slot": slot, "bundle": digest, "counter": held.counter, "encrypted": encrypted}
    if held.choice is not None:
        shown |= {"runs": str(held.choice.option), "fallback": held.choice.fallback}
    try:
        content = (home.slot(slot) / MANIFEST).read_bytes()
        manifest = parse_json(Manifest, content, MANIFEST, FORMAT)
    except (OSError, ContractError):
        return shown
    return shown | {"name": manifest.name, "version": manifest.version, "profile": manifest.profile}
