"""Where the running agent stands, for people and programs on the device: one value, and its file.

The daemon writes it to `standing.json` now and then, without a sync: it is news, not state, and what a
power cut leaves of it is as good as nothing. `edge-agent status` reads it.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from edge_agent.device.home import Home
from edge_contracts.errors import ContractError
from edge_contracts.messages import ActiveModel, DriftKind
from edge_contracts.model import Count, Finite, Frozen, Identifier, canonical_json, parse_json

FORMAT = "edgefleet.standing/1"
BLOCK_BYTES = 4096


class Standing(Frozen):
    """Where the agent stands; times are Unix milliseconds of the device's clock.

    Args:
        time_ms: When this was written.
        started_ms: When the agent started.
        model_since_ms: Since when the model answers.
        trial: Whether it is on trial.
        golden_agrees: Whether its golden inputs gave the right answers when it was opened.
        link_up: Whether the broker is there; False without a fleet.
        link_reason: Why it is not.
        refused_since_ms, refusals: Since when and how often the broker has refused this device; 0 for not.
        heard_ms: Last word of the server; 0 for none since the start.
        answered, failed, refused: Since the start, by all models.
        latency_p50_ms, latency_p95_ms: Of the last window; None when it answered nothing.
        drifting: Kinds of drift that stand, as in Window.
        waiting, waiting_bytes, dropped_records: Of the outbox.
        alarm, alarm_ms: The last thing that went wrong since the start, "" for none.
    """

    format: Literal["edgefleet.standing/1"] = "edgefleet.standing/1"
    time_ms: Count
    started_ms: Count
    agent: str
    device: Identifier | None = None
    fleet: Identifier | None = None
    model: ActiveModel | None = None
    model_since_ms: int = 0
    trial: bool = False
    golden_agrees: bool = True
    link_up: bool = False
    link_reason: str = ""
    refused_since_ms: int = 0
    refusals: int = 0
    heard_ms: int = 0
    answered: int = 0
    failed: int = 0
    refused: int = 0
    latency_p50_ms: Finite | None = None
    latency_p95_ms: Finite | None = None
    drifting: tuple[DriftKind, ...] = ()
    waiting: int = 0
    waiting_bytes: int = 0
    dropped_records: int = 0
    temperature_c: Finite | None = None
    rss_bytes: int = 0
    cpu_s: Finite = 0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    alarm: str = ""
    alarm_ms: int = 0

    @property
    def is_well(self) -> bool:
        """Whether the device answers with a model that it has reason to trust."""
        return self.model is not None and self.golden_agrees


def write(home: Home, standing: Standing) -> bool:
    """Replace the file, and say whether it could be; a disk that does not take it is no reason to stop.

    A full disk may still take the same block with other bytes: who looks then needs the news most.
    """
    path, content = home.folder / "standing.json", canonical_json(standing)
    fresh = path.with_name("standing.json.new")
    try:
        fresh.write_bytes(content)
        os.replace(fresh, path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        return error.errno in (errno.ENOSPC, errno.EDQUOT) and _written_over(path, content)
    return True


def _written_over(path: Path, content: bytes) -> bool:
    """In place, and only within the block that the file has; half of it would be taken for none."""
    try:
        with path.open("r+b", buffering=0) as stream:
            if len(content) > BLOCK_BYTES:
                return False
            stream.write(content)
            stream.truncate()
    except OSError:
        return False
    return True


def read(home: Home) -> Standing | None:
    """What the daemon wrote last; None when there is nothing that can be read."""
    try:
        return parse_json(Standing, (home.folder / "standing.json").read_bytes(), "standing.json", FORMAT)
    except (OSError, ContractError):
        return None
