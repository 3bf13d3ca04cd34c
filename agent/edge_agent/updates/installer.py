"""Bringing a bundle into a slot: opened, verified, admitted, extracted beside and renamed.

Only a `VerifiedManifest` gets in. What becomes of it then (check, trial) is `slots.py`'s question and
`agent.py`'s work.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

from edge_agent import sealed
from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid, InstallRefused, NoSpace, WrongProfile
from edge_agent.updates.room import Room, require_space
from edge_agent.updates.slots import Slot
from edge_agent.updates.store import Found
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.digest import short
from edge_contracts.errors import ContractError, DigestMismatch
from edge_contracts.keys import TrustedKeys
from edge_contracts.manifest import Manifest
from edge_contracts.on_disk import sync_folder
from edge_contracts.profile import DeviceProfile
from edge_contracts.signing import VerifiedManifest, verify

log = logging.getLogger(__name__)


def open_verified(archive: Path, trusted: TrustedKeys) -> tuple[Bundle, VerifiedManifest]:
    """Open an archive whose publisher is trusted.

    Raises:
        ContractError: What is wrong with it: see `open_bundle` and `signing.verify`.
    """
    bundle = open_bundle(archive)
    return bundle, verify(bundle, trusted)


def admit(manifest: Manifest, profile: DeviceProfile, lineage: tuple[str, ...]) -> None:
    """See that a bundle was made for this class of device and keeps to its bounds.

    Args:
        lineage: The device's profile and those it extends.

    Raises:
        WrongProfile: It was made for another.
        InstallRefused: An artifact is larger than the profile allows.
    """
    if manifest.profile not in lineage:
        raise WrongProfile(
            f"{manifest.name} {manifest.version} is made for profile {manifest.profile}, "
            f"this device runs {', '.join(lineage)}"
        )
    largest = max(artifact.bytes for artifact in manifest.artifacts)
    if largest > profile.artifact_bytes:
        raise InstallRefused(
            f"an artifact has {largest} bytes, profile {profile.name} allows {profile.artifact_bytes}"
        )


def place(home: Home, bundle: Bundle, slot: Slot) -> None:
    """Extract a bundle into a slot that counts as empty already; all of it or none.

    Raises:
        NoSpace: The disk cannot hold it.
        HomeInvalid: The disk failed.
    """
    folder = home.slot(slot)
    beside = folder.with_name(f"{slot}.new")
    try:
        erase(home, slot)
        shutil.rmtree(beside, ignore_errors=True)
        Room(home.downloads).give_back()  # it was kept for this
        require_space(folder.parent, _unpacked_bytes(bundle))
        sealed.unpack(bundle, beside)
        os.rename(beside, folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{folder.parent} ran full while {short(bundle.digest)} was unpacked") from None
        raise HomeInvalid(f"cannot write {folder}: {error.strerror}") from None


def erase(home: Home, slot: Slot) -> None:
    """Empty a slot; harmless when it is empty already."""
    folder = home.slot(slot)
    away = folder.with_name(f"{slot}.old")
    shutil.rmtree(away, ignore_errors=True)
    if folder.exists():
        # renamed first: a slot is there whole or not at all, also when power goes while it is deleted
        os.rename(folder, away)
        sync_folder(folder.parent)
        shutil.rmtree(away, ignore_errors=True)


def verify_slot(
    home: Home, slot: Slot, trusted: TrustedKeys, expected: str | None = None
) -> VerifiedManifest:
    """Check what lies in a slot again: every digest, the signature, and that it is what it should be.

    Args:
        expected: Digest of the manifest that the state says is there; None to take what is found.

    Raises:
        ContractError: It is damaged, or its publisher is not trusted any more.
    """
    bundle = sealed.read_folder(home.slot(slot))
    if expected is not None and bundle.digest != expected:
        raise DigestMismatch(f"slot {slot} holds bundle {bundle.digest}, expected {expected}")
    return verify(bundle, trusted)


def size_bytes(home: Home, slot: Slot) -> int:
    """What the files of a slot take."""
    return sum(path.stat().st_size for path in home.slot(slot).rglob("*") if path.is_file())


def written_s(home: Home, slot: Slot) -> float:
    """When a slot's manifest was written, by the device's clock then."""
    return (home.slot(slot) / "manifest.json").stat().st_mtime


def salvage(home: Home, trusted: TrustedKeys) -> dict[Slot, Found]:
    """What the slots hold that verifies, for a device whose state is gone."""
    found: dict[Slot, Found] = {}
    for slot in Slot:
        if not home.slot(slot).exists():
            continue
        try:
            verified = verify_slot(home, slot, trusted)
            found[slot] = Found(verified.digest, written_s(home, slot))
        except ContractError as error:
            log.error("slot does not verify", extra={"slot": slot, "reason": str(error)})
    return found


def _unpacked_bytes(bundle: Bundle) -> int:
    return sum(len(content) for content in bundle.contents.values()) + len(bundle.envelope) + (1 << 20)
