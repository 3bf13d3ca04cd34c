"""What `edge-agent doctor` looks at: everything that the agent needs, each with what to do about it.

Read-only, and no more of the network than a connection to the two addresses of the configuration.
"""

from __future__ import annotations

import platform
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import time

from edge_agent.device.config import DeviceConfig, read_config, read_device_key, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.device.http import opened
from edge_agent.device.status import read_depth
from edge_agent.errors import AgentError
from edge_agent.runtimes import registry
from edge_agent.updates import installer
from edge_agent.updates.assignment import CLOCK_IS_SET_MS
from edge_agent.updates.download import RESERVE_BYTES
from edge_agent.updates.store import Store
from edge_contracts.errors import ContractError

CONNECT_S = 5.0


class Grade(StrEnum):
    """How a finding is to be taken."""

    GOOD = "ok"
    NOTICE = "note"  # works, but a person should know
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    grade: Grade
    detail: str

    @property
    def is_wrong(self) -> bool:
        """Whether something must be done."""
        return self.grade is Grade.WRONG


def examine(home: Home) -> list[Finding]:
    """Look at everything."""
    findings = [*_system(), *_disk(home)]
    try:
        config = read_config(home)
    except AgentError as error:
        return [*findings, Finding("enrolment", Grade.WRONG, str(error))]
    if config is None:
        findings.append(Finding("enrolment", Grade.NOTICE, "not enrolled; edge-agent enroll joins a fleet"))
    else:
        findings += [*_identity(home, config), *_runtimes(config), *_network(config)]
    return [*findings, *_slots(home, config), *_outbox(home)]


def as_text(findings: list[Finding]) -> str:
    """A line for each."""
    return "\n".join(f"{f.grade:<6} {f.subject:<11} {f.detail}" for f in findings)


def _system() -> Iterator[Finding]:
    yield Finding(
        "python", Grade.GOOD, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    if time() * 1000 < CLOCK_IS_SET_MS:
        yield Finding(
            "clock",
            Grade.WRONG,
            "stands before 2020; set it, or start NTP: assignments cannot expire, "
            "and certificates do not verify",
        )
    else:
        yield Finding("clock", Grade.GOOD, "is set")


def _disk(home: Home) -> Iterator[Finding]:
    folder = next(f for f in (home.folder.absolute(), *home.folder.absolute().parents) if f.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{free >> 20} MiB free at {folder}"
    if free < RESERVE_BYTES:
        yield Finding(
            "disk", Grade.WRONG, f"{detail}; updates keep {RESERVE_BYTES >> 20} MiB free, make room"
        )
    else:
        yield Finding("disk", Grade.GOOD, detail)
    if home.folder.exists():
        yield _private(home.folder, 0o700)


def _identity(home: Home, config: DeviceConfig) -> Iterator[Finding]:
    yield Finding("enrolment", Grade.GOOD, f"{config.device} in fleet {config.fleet}")
    for path in (home.config, home.key):
        if path.exists():
            yield _private(path, 0o600)
    try:
        key = read_device_key(home, config)
        yield Finding("key", Grade.GOOD, f"{key.public.key_id}")
    except AgentError as error:
        yield Finding("key", Grade.WRONG, str(error))
    publishers = trusted_publishers(home, config).keys
    if publishers:
        yield Finding("publishers", Grade.GOOD, f"{len(publishers)} trusted: {', '.join(sorted(publishers))}")
    else:
        yield Finding(
            "publishers",
            Grade.WRONG,
            "nobody is trusted, so nothing can be installed; edge-agent trust PUBLIC_KEY",
        )


def _runtimes(config: DeviceConfig) -> Iterator[Finding]:
    machine = platform.machine()
    if machine not in config.profile.architectures:
        wanted = ", ".join(config.profile.architectures)
        yield Finding(
            "profile", Grade.NOTICE, f"{config.profile.name} is for {wanted}, this machine is {machine}"
        )
    else:
        yield Finding("profile", Grade.GOOD, f"{config.profile.name} on {machine}")
    present = 0
    for name in config.profile.runtimes:
        try:
            version = registry.load(name).version()
        except AgentError as error:
            yield Finding("runtime", Grade.NOTICE, f"{name}: {error}")
            continue
        present += 1
        yield Finding("runtime", Grade.GOOD, f"{name} {version}")
    if not present:
        yield Finding(
            "runtime", Grade.WRONG, "none of the profile's runtimes is here; pip install 'edgefleet[agent]'"
        )


def _network(config: DeviceConfig) -> Iterator[Finding]:
    try:
        opened(f"{config.server}/healthz", {}, ca=config.server_ca).close()
        yield Finding("server", Grade.GOOD, config.server)
    except AgentError as error:
        yield Finding("server", Grade.WRONG, f"{error}; inference goes on, updates wait")
    address = (config.mqtt_host, config.mqtt_port)
    try:
        socket.create_connection(address, CONNECT_S).close()
        yield Finding("broker", Grade.GOOD, f"{address[0]}:{address[1]} answers")
    except OSError as error:
        reason = error.strerror or error
        yield Finding(
            "broker", Grade.WRONG, f"{address[0]}:{address[1]}: {reason}; telemetry stays in the outbox"
        )


def _slots(home: Home, config: DeviceConfig | None) -> Iterator[Finding]:
    store = Store(home)
    if store.lost:
        yield Finding("state", Grade.WRONG, f"{store.lost}; the next start makes a new one from the slots")
    trusted = trusted_publishers(home, config)
    for slot, held in store.slots.held.items():
        try:
            verified = installer.verify_slot(home, slot, trusted, held.bundle)
        except ContractError as error:
            yield Finding(f"slot {slot}", Grade.WRONG, str(error))
            continue
        manifest = verified.manifest
        role = "active" if slot is store.slots.active else "not active"
        yield Finding(f"slot {slot}", Grade.GOOD, f"{manifest.name} {manifest.version} verifies, {role}")
    if not store.slots.held:
        yield Finding("slots", Grade.NOTICE, "no bundle is installed")


def _outbox(home: Home) -> Iterator[Finding]:
    depth = read_depth(home)
    if depth is None:
        if home.outbox.exists():
            yield Finding("outbox", Grade.WRONG, "cannot be read; the next start sets it aside")
        return
    detail = f"{depth.waiting} envelopes ({depth.waiting_bytes} bytes) not acknowledged"
    if depth.dropped_records:
        yield Finding("outbox", Grade.NOTICE, f"{detail}; {depth.dropped_records} records were dropped")
    else:
        yield Finding("outbox", Grade.GOOD, detail)


def _private(path: Path, wanted: int) -> Finding:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("modes", Grade.WRONG, f"{path} has mode {mode:04o}; chmod {wanted:04o} it")
    return Finding("modes", Grade.GOOD, f"{path} is for its owner only")
