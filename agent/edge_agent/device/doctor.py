"""What `edge-agent doctor` looks at: everything that the agent needs, each with what to do about it.

Read-only, and no more of the network than a connection to the two addresses of the configuration.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import time

from edge_agent.device import bytecode, reach, served, shown
from edge_agent.device.config import DeviceConfig, read_config, read_device_key, trusted_publishers
from edge_agent.device.finding import Finding, Grade
from edge_agent.device.home import Home
from edge_agent.device.mending import faults
from edge_agent.device.refused import ADVICE, read_refusal
from edge_agent.device.status import read_depth
from edge_agent.device.writable import why_unwritable
from edge_agent.errors import AgentError
from edge_agent.runtimes import registry
from edge_agent.runtimes.choice import options
from edge_agent.telemetry import standing
from edge_agent.updates import installer
from edge_agent.updates.assignment import CLOCK_IS_SET_MS
from edge_agent.updates.room import RESERVE_BYTES
from edge_agent.updates.store import Store
from edge_contracts.errors import ContractError
from edge_contracts.manifest import Manifest

FEW_NODES = 1000  # an update and a day of the agent make a hundred files


def examine(home: Home) -> list[Finding]:
    """Look at everything."""
    findings = [*_system(), *bytecode.examine(), _daemon(home), *_disk(home)]
    try:
        config = read_config(home)
    except AgentError as error:
        advice = "make a token (edge-fleet token create), then: edge-agent enroll --force"
        wrong = Finding("enrolment", Grade.WRONG, str(error), advice)
        return [*findings, wrong, *_outbox(home), *served.examine(home)]
    for fault in faults(home):
        advice = "its copy counts; restart the agent: it puts the file back"
        findings.append(Finding("identity", Grade.WRONG, fault, advice))
    if config is None:
        findings.append(Finding("enrolment", Grade.NOTICE, "not enrolled; edge-agent enroll joins a fleet"))
    else:
        findings += [*_identity(home, config), *_runtimes(config), *reach.examine(config), *_refused(home)]
        findings += shown.examine(home, config)
    return [*findings, *_slots(home, config), *_outbox(home), *served.examine(home)]


def _system() -> Iterator[Finding]:
    yield Finding(
        "python", Grade.GOOD, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    if time() * 1000 < CLOCK_IS_SET_MS:
        yield Finding(
            "clock",
            Grade.WRONG,
            "stands before 2020: assignments cannot expire, and certificates do not verify",
            "start NTP (timedatectl set-ntp true), or set it (date --set)",
        )
    else:
        yield Finding("clock", Grade.GOOD, "is set")


def _daemon(home: Home) -> Finding:
    holder = home.holder()
    if holder is None:
        return Finding(
            "daemon", Grade.NOTICE, "does not run", "systemctl start edge-agent, or: edge-agent run"
        )
    return Finding("daemon", Grade.GOOD, f"process {holder}")


def _disk(home: Home) -> Iterator[Finding]:
    folder = next(f for f in (home.folder.absolute(), *home.folder.absolute().parents) if f.exists())
    usage, kept = shutil.disk_usage(folder), RESERVE_BYTES >> 20
    detail = f"{usage.free >> 20} of {usage.total >> 20} MiB free at {folder}"
    if usage.free < RESERVE_BYTES:
        advice = f"make room: no update is taken that would leave less than {kept} MiB"
        yield Finding("disk", Grade.WRONG, detail, advice)
    else:
        yield Finding("disk", Grade.GOOD, detail)
    nodes = os.statvfs(folder)
    if nodes.f_files and nodes.f_favail < FEW_NODES:
        advice = f"remove files below {folder}: many small ones use them up"
        yield Finding("disk", Grade.WRONG, f"{nodes.f_favail} files can still be made", advice)
    reason = why_unwritable(folder) or ("" if os.access(folder, os.W_OK) else "it is another user's")
    if reason:
        advice = "run this as the agent's user (sudo -u edge-agent), or see in dmesg why it is so"
        yield Finding("disk", Grade.WRONG, f"{folder} cannot be written: {reason}", advice)
    if home.folder.exists():
        yield _private(home.folder, 0o700)
        yield from _barred(home.folder)


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
    since = "" if not config.enrolled_director else ", named by a statement since the enrolment"
    yield Finding("director", Grade.GOOD, f"{config.director.key_id}{since}")
    publishers = trusted_publishers(home, config).keys
    if publishers:
        yield Finding("publishers", Grade.GOOD, f"{len(publishers)} trusted: {', '.join(sorted(publishers))}")
    else:
        yield Finding(
            "publishers",
            Grade.WRONG,
            "nobody is trusted, so nothing can be installed",
            "edge-agent trust PUBLIC_KEY",
        )


def _refused(home: Home) -> Iterator[Finding]:
    """What the running agent says of the broker: the doctor does not log in."""
    news = standing.read(home) if home.holder() is not None else None
    if news is None:
        return
    found = read_refusal(news.link_up, news.link_reason, news.refused_since_ms, news.refusals, time())
    if found is None:
        return
    grade, advice = (Grade.WRONG, ADVICE) if found.stands else (Grade.NOTICE, "look again in a minute")
    yield Finding("broker", grade, f"refuses this device {found}", advice)


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
            "runtime", Grade.WRONG, "none of the profile's runtimes is here", "pip install 'edgefleet[agent]'"
        )


def _slots(home: Home, config: DeviceConfig | None) -> Iterator[Finding]:
    store = Store(home)
    if store.lost:
        yield Finding("state", Grade.WRONG, store.lost, "start the agent: it makes a new one from the slots")
    trusted = trusted_publishers(home, config)
    for slot, held in store.slots.held.items():
        try:
            verified = installer.verify_slot(home, slot, trusted.ever, held.bundle)
        except ContractError as error:
            advice = "the agent will not open it; install the bundle again, or let the server assign one"
            yield Finding(f"slot {slot}", Grade.WRONG, str(error), advice)
            continue
        manifest = verified.manifest
        role = "active" if slot is store.slots.active else "not active"
        yield Finding(f"slot {slot}", Grade.GOOD, f"{manifest.name} {manifest.version} verifies, {role}")
        if slot is store.slots.active:
            yield from _driver(manifest)
    if not store.slots.held:
        yield Finding("slots", Grade.NOTICE, "no bundle is installed")


def _driver(manifest: Manifest) -> Iterator[Finding]:
    """Where the active bundle runs, and what is missing for the ways that it would rather take."""
    for option, missing in options(manifest).items():
        if not missing:
            yield Finding("driver", Grade.GOOD, f"{option}")
            return
        yield Finding("driver", Grade.NOTICE, f"not {option}: {missing}", "the next way is taken")
    yield Finding(
        "driver", Grade.WRONG, "nothing here can run the active bundle", "install what is missing above"
    )


def _outbox(home: Home) -> Iterator[Finding]:
    depth = read_depth(home)
    if depth is None:
        if home.outbox.exists():
            yield Finding("outbox", Grade.WRONG, "cannot be read", "start the agent: it sets it aside")
        return
    detail = f"{depth.waiting} envelopes or records ({depth.waiting_bytes} bytes) not acknowledged"
    if depth.dropped_records:
        yield Finding("outbox", Grade.NOTICE, f"{detail}; {depth.dropped_records} records were dropped")
    else:
        yield Finding("outbox", Grade.GOOD, detail)


def _barred(folder: Path) -> Iterator[Finding]:
    """What is there and cannot be used by whoever runs this, and so not by the agent when it is that user."""
    for path in sorted(folder.rglob("*")):
        need = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if not path.is_symlink() and not os.access(path, need, effective_ids=True):
            advice = f"chown -R the agent's user {folder}; chmod -R u+rwX {folder}; or run this as that user"
            yield Finding("modes", Grade.WRONG, f"{path} cannot be read and written by this user", advice)
            return  # one says it: there may be hundreds


def _private(path: Path, wanted: int) -> Finding:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("modes", Grade.WRONG, f"{path} has mode {mode:04o}", f"chmod {wanted:04o} {path}")
    return Finding("modes", Grade.GOOD, f"{path} is for its owner only")
