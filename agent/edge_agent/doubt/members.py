"""Bundles beside the active one: brought in like an update, opened like the active one.

    HOME/lineup/<digest>/     one extracted bundle each; `lineup.json` names those that count
    HOME/lineup/starts.json   how many starts with them have not lasted: they must not keep the agent down

A folder is there whole or not at all. It is written before the document names it and removed after the
document has forgotten it, so a power cut leaves at most a folder that nobody names; the next command
removes it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent import sealed
from edge_agent.device.home import Home, write_durably
from edge_agent.doubt.settings import ChoiceSettings, LineupSettings, read_ordered
from edge_agent.errors import ContractDiffers, HomeInvalid, NoSpace
from edge_agent.inference.golden import read_golden, run_golden
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates.local import open_for
from edge_agent.updates.room import Room, require_space
from edge_agent.updates.trial import Limits, run_trial
from edge_contracts.bundle import Bundle
from edge_contracts.digest import Digest, short
from edge_contracts.errors import ContractError, DigestMismatch
from edge_contracts.keys import TrustedKeys
from edge_contracts.lineup import Role
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.model import Count, Frozen, canonical_json, parse_json
from edge_contracts.on_disk import sync_folder
from edge_contracts.signing import VerifiedManifest, verify

STARTS_FORMAT = "edgefleet.lineup-starts/1"
MAX_STARTS = 3  # that did not last: then the agent goes on alone


@dataclass(frozen=True)
class Brought:
    """A bundle that may stand beside the active one.

    Args:
        choice: How to run it, as its trial settled on.
        memory_bytes: What it added to the memory of a process, at its peak.
    """

    digest: Digest
    manifest: Manifest
    choice: Choice
    memory_bytes: int


class Starts(Frozen):
    """Starts with members beside the active model that have not lasted."""

    format: Literal["edgefleet.lineup-starts/1"] = "edgefleet.lineup-starts/1"
    failed: Count = 0


def bring(home: Home, archive: Path, active: Manifest | None, limits: Limits | None = None) -> Brought:
    """Verify a bundle, try it in a child process, and put it where it can be named.

    Args:
        active: Of the model that it will stand beside; None when nothing is installed yet.

    Raises:
        NotEnrolled, ContractError, InstallRefused, TrialFailed: As for an install.
        ContractDiffers: Other inputs or outputs than the active model's.
        NoSpace, HomeInvalid: The disk is full or failed.
    """
    return put(home, open_for(home, archive, None), active, limits or Limits())


def put(
    home: Home,
    bundle: Bundle,
    active: Manifest | None,
    limits: Limits,
    barred: Callable[[Mapping[Option, str]], Mapping[Option, str]] | None = None,
) -> Brought:
    """The same of a bundle that is verified and admitted; one that lies there already is tried again.

    Args:
        barred: Says which ways of running it are not to be tried, and why.
    """
    if active is not None:
        require_same_contract(active, bundle.manifest)
    folder = folder_of(home, bundle.digest)
    beside = folder.with_name(folder.name + ".new")
    try:
        folder.parent.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(beside, ignore_errors=True)
        if not folder.exists():
            Room(home.downloads).give_back()  # where it was downloaded, room was kept for this
            unpacked = sum(len(content) for content in bundle.contents.values()) + (1 << 20)
            require_space(folder.parent, unpacked)
            sealed.unpack(bundle, beside)
        report = run_trial(beside if beside.exists() else folder, bundle.manifest, limits, barred=barred)
        if beside.exists():
            os.rename(beside, folder)
            sync_folder(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{folder.parent} ran full while {short(bundle.digest)} was unpacked") from None
        raise HomeInvalid(f"cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Brought(bundle.digest, bundle.manifest, report.choice, report.memory_bytes)


def verify_folder(folder: Path, digest: str, trusted: TrustedKeys) -> VerifiedManifest:
    """Check what lies in a folder again: every digest, the signature, and which bundle it is.

    Raises:
        ContractError: It is damaged or missing, or its publisher is not trusted any more.
    """
    bundle = sealed.read_folder(folder)
    if bundle.digest != digest:
        raise DigestMismatch(f"{folder} holds bundle {bundle.digest}, expected {digest}")
    return verify(bundle, trusted)


def open_member(
    folder: Path,
    verified: VerifiedManifest,
    choice: Choice | None,
    role: Role,
    experiment: str = "",
    threads: int = 1,
) -> Serving:
    """Open a verified bundle beside the active one; its golden inputs must agree in this process too.

    Raises:
        RuntimeUnavailable, ModelInvalid: Nothing here can run it.
        ContractDiffers: "golden-mismatch": it answers them otherwise than where it was made.
        InferenceFailed: Its runtime fails on them.
    """
    session = Session.open(folder, verified.manifest, choice, threads)
    with ExitStack() as unless_it_serves:
        unless_it_serves.callback(session.close)
        golden = read_golden(folder, verified.manifest, session.artifact.id)
        result = run_golden(session, golden)
        if not result.passed:
            raise ContractDiffers("golden-mismatch", f"golden inputs do not agree: {result.reason}")
        unless_it_serves.pop_all()
    serving = Serving.begin(verified.digest, session, False, role, experiment)
    serving.counter.asked_golden(result)
    return serving


def require_same_contract(active: Manifest, other: Manifest) -> None:
    """See that an application cannot tell two models apart but by their answers.

    What a client prepares and reads by one bundle's contract must be right for the other's.

    Raises:
        ContractDiffers: Says in what.
    """
    found = differs(active, other)
    if found:
        raise ContractDiffers(
            "contract-differs",
            f"{other.name} {other.version} cannot stand beside {active.name} {active.version}: {found}",
        )


def differs(active: Manifest, other: Manifest) -> str:
    """In what an application could tell two models apart, found and expected; "" for nothing."""
    if active.task != other.task:
        return f"its task is {other.task}, expected {active.task}"
    if not _same_inputs(active.inputs, other.inputs):
        return f"it has other inputs: {_named(other.inputs)}, expected {_named(active.inputs)}"
    if any(mine.prepare != its.prepare for mine, its in zip(active.inputs, other.inputs, strict=True)):
        return "its rule of how a file becomes an input is another"
    if [(s.name, s.dtype, s.shape) for s in active.outputs] != [
        (s.name, s.dtype, s.shape) for s in other.outputs
    ]:
        return f"it has other outputs: {_named(other.outputs)}, expected {_named(active.outputs)}"
    if active.labels != other.labels:
        return f"it has other labels: {_listed(other.labels)}, expected {_listed(active.labels)}"
    if active.interpret != other.interpret:
        return "its rule of how outputs become answers is another"
    return ""


def choice_of(settings: LineupSettings, digest: str) -> Choice | None:
    """How a member's trial settled on running it."""
    found = settings.choices.get(digest)
    return None if found is None else as_choice(found)


def as_choice(found: ChoiceSettings) -> Choice:
    """A choice as it was stored."""
    return Choice(Option(found.artifact, found.runtime, found.device), found.fallback, found.latency_p95_ms)


def as_settings(choice: Choice) -> ChoiceSettings:
    """The same as it is stored."""
    option = choice.option
    return ChoiceSettings(
        artifact=option.artifact,
        runtime=option.runtime,
        device=option.device,
        fallback=choice.fallback,
        latency_p95_ms=choice.latency_p95_ms,
    )


def folder_of(home: Home, digest: str) -> Path:
    """Where a member's bundle lies."""
    return home.folder / "lineup" / digest.removeprefix("sha256:")[:32]


def tidy(home: Home, settings: LineupSettings) -> list[str]:
    """Remove the folders of bundles that neither document names; names of those removed.

    A daemon that still has one open keeps its open files; it closes them when it reads the document.
    """
    parent = home.folder / "lineup"
    ordered = read_ordered(home)
    named = settings.bundles | ({ordered.shadow.bundle} if ordered is not None else set())
    keep = {folder_of(home, digest).name for digest in named}
    removed = []
    for found in sorted(parent.glob("*")) if parent.exists() else []:
        path = found
        if path.is_dir() and path.name not in keep:
            if not path.name.endswith(".old"):
                removed.append(path.name)
                away = path.with_name(path.name + ".old")
                shutil.rmtree(away, ignore_errors=True)
                path = path.rename(away)  # whole or gone, also when power goes while it is deleted
            shutil.rmtree(path, ignore_errors=True)
    return removed


def failed_starts(home: Home) -> int:
    """How many starts with members have not lasted; what cannot be read counts as none."""
    path = home.folder / "lineup" / "starts.json"
    try:
        return parse_json(Starts, path.read_bytes(), path.name, STARTS_FORMAT).failed
    except (OSError, ContractError):
        return 0


def note_starts(home: Home, failed: int) -> None:
    """Store how many have not lasted; raises HomeInvalid when the disk does not take it."""
    if failed == failed_starts(home):
        return
    folder = home.folder / "lineup"
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise HomeInvalid(f"cannot make {folder}: {error.strerror}") from None
    write_durably(folder / "starts.json", canonical_json(Starts(failed=failed)))


def _same_inputs(mine: Sequence[TensorSpec], others: Sequence[TensorSpec]) -> bool:
    """Whether the same arrays fit: what one does not state (a dense net: no layout) contradicts nothing."""
    return len(mine) == len(others) and all(
        (one.name, one.dtype, one.shape) == (other.name, other.dtype, other.shape)
        and (not one.layout or not other.layout or one.layout == other.layout)
        and (not one.color_order or not other.color_order or one.color_order == other.color_order)
        for one, other in zip(mine, others, strict=True)
    )


def _named(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(
        " ".join(filter(None, (s.name, s.dtype, str(s.shape), s.layout, s.color_order))) for s in specs
    )


def _listed(labels: Sequence[str]) -> str:
    return f"{', '.join(labels):.100}" or "none"
