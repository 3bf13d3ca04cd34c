"""Updates from a stick: a folder that is looked into, for devices that no server reaches.

What lies there is believed no more than what a server sends. A bundle needs a release note beside it
(`NAME.bundle`, `NAME.release`, made by `edge-convert keys release`): it gives the counter by which newer is
told from older, and permission to go back where there is one. Then the bundle goes the whole way of an
update. One whose fate is known, good or bad, is not tried again, for sticks are left where they are.
Statements about keys (`*.keys`) are followed first.

A bundle is read whole into memory and checked before anything is written, so a stick that is pulled out in
the middle has changed nothing; it is read again when it is back.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home, write_durably
from edge_agent.errors import AgentError, Downgrade, HomeInvalid, InstallRefused
from edge_agent.updates import installer
from edge_agent.updates.slots import Held, Tell
from edge_agent.updates.updater import Updater
from edge_agent.updates.withdrawing import require_standing
from edge_contracts.bundle import SUFFIX, Bundle
from edge_contracts.digest import Digest, short
from edge_contracts.errors import BundleInvalid, ContractError, FormatInvalid
from edge_contracts.keys import TrustedKeys
from edge_contracts.model import Frozen, canonical_json, parse_json
from edge_contracts.trust import (
    KEYS_SUFFIX,
    MAX_STATEMENT_BYTES,
    RELEASE_SUFFIX,
    ReleaseNote,
    open_release,
)

log = logging.getLogger(__name__)

SCAN_S = 5.0
MAX_FILES = 256  # of one folder that are looked at
REMEMBERED = 64
FORMAT = "edgefleet.media-done/1"
Mark = tuple[str, int, int]  # name, size, time
FATES = frozenset({"confirmed", "refused", "rolled-back"})


class Done(Frozen):
    """Bundles from sticks whose fate is known, the latest last."""

    format: Literal["edgefleet.media-done/1"] = "edgefleet.media-done/1"
    bundles: tuple[Digest, ...] = ()


class Media:
    """The folder; used from the agent's thread.

    Args:
        folder: Where sticks are mounted, or None for no such place. It need not be there.
        follow: Takes a signed statement about keys.
        tell: Puts an event into the telemetry.
    """

    def __init__(
        self,
        folder: Path | None,
        home: Home,
        config: DeviceConfig | None,
        updater: Updater,
        follow: Callable[[bytes], None],
        tell: Callable[[Tell], None],
    ) -> None:
        """Take the parts."""
        self._folder, self._updater = folder, updater
        self._home, self._config = home, config
        self._follow, self._tell = follow, tell
        self._next_s = 0.0
        self._before: set[Mark] = set()  # what lay there at the last look
        self._seen: set[tuple[Mark, ...]] = set()  # looked at, and nothing to do
        self._bringing: str | None = None

    def tick(self, now_s: float, trusted: TrustedKeys) -> None:
        """Look into the folder now and then, while no update is under way."""
        if self._folder is None or now_s < self._next_s or self._updater.is_busy or self._updater.is_stuck:
            return
        self._next_s = now_s + SCAN_S
        files = _list(self._folder)
        settled, self._before = self._before & files, files  # what is still being copied can wait
        self._seen = {marks for marks in self._seen if files.issuperset(marks)}  # it may be another stick
        by_name = {mark[0]: mark for mark in sorted(settled)}
        for name, mark in by_name.items():
            if not name.endswith(KEYS_SUFFIX) or (mark,) in self._seen:
                continue
            self._seen.add((mark,))
            content = _read(self._folder / name)
            if content is not None:
                self._follow(content)
                return  # other keys may count now
        for name, mark in by_name.items():
            archive = by_name.get(name.removesuffix(RELEASE_SUFFIX) + SUFFIX)
            if not name.endswith(RELEASE_SUFFIX) or archive is None or (mark, archive) in self._seen:
                continue
            self._seen.add((mark, archive))
            if self._consider(self._folder / name, trusted):
                return

    def happened(self, tell: Tell) -> None:
        """Something became of a bundle: one of ours is done with then."""
        if tell.event not in FATES or tell.bundle is None or tell.bundle != self._bringing:
            return
        self._bringing = None
        done = tuple(one for one in read_done(self._home) if one != tell.bundle)
        kept = Done(bundles=(*done, tell.bundle)[-REMEMBERED:])
        try:
            write_durably(_path(self._home), canonical_json(kept))
        except HomeInvalid as error:  # the rule of counters holds without it
            log.error("not remembered", extra={"bundle": tell.bundle, "reason": str(error)})

    def _consider(self, path: Path, trusted: TrustedKeys) -> bool:
        """Begin to install what a release note names; whether anything was begun."""
        content = _read(path)
        if content is None:
            return False
        try:
            note = open_release(content, trusted)
            slots = self._updater.slots
            if note.bundle in (slots.bundle_in(slots.active), *read_done(self._home)):
                return False
            require_standing(slots, note.bundle)
            self._require_wanted(note)
        except (AgentError, ContractError) as error:
            log.warning("not installed from media", extra={"file": path.name, "reason": str(error)})
            self._tell(Tell("media-refused", None, None, error.code, f"{path.name}: {error}"))
            return False
        archive = path.with_suffix(SUFFIX)
        self._bringing = note.bundle

        def refused(error: AgentError | ContractError) -> None:
            self._bringing = None
            log.warning("not installed from media", extra={"file": archive.name, "reason": str(error)})
            self._tell(Tell("media-refused", note.bundle, None, error.code, f"{archive.name}: {error}"))

        log.info("installing from media", extra={"file": archive.name, "bundle": short(note.bundle)})
        self._updater.bring(lambda: self._open(archive, note, trusted), refused)
        return True

    def _require_wanted(self, note: ReleaseNote) -> None:
        """See that a release is meant for this device and newer, or permitted all the same.

        Raises:
            InstallRefused: It is for another device.
            Downgrade: It is older, and nobody permits it.
        """
        device = self._config.device if self._config is not None else None
        if note.device is not None and note.device != device:
            raise InstallRefused(f"the release is for device {note.device}, this is {device or 'none'}")
        floor = self._updater.slots.floor
        if not note.permits(floor):
            until = "" if note.while_floor is None else f"; its permission ended at {note.while_floor}"
            raise Downgrade(f"release counter {note.counter} is below {floor}, confirmed here{until}")

    def _open(self, archive: Path, note: ReleaseNote, trusted: TrustedKeys) -> tuple[Bundle, Held]:
        """Read and check a bundle; runs in the worker."""
        try:
            bundle, verified = installer.open_verified(archive, trusted)
        except OSError as error:
            raise BundleInvalid(f"cannot read {archive.name}: {error.strerror}") from None
        if bundle.digest != note.bundle:
            raise InstallRefused(f"the file holds bundle {bundle.digest}, its note is about {note.bundle}")
        if self._config is not None:
            installer.admit(verified.manifest, self._config.profile, self._config.lineage)
        return bundle, Held(bundle.digest, note.counter)


def read_done(home: Home) -> tuple[str, ...]:
    """Bundles from sticks whose fate is known; a damaged file knows of none."""
    try:
        return parse_json(Done, _path(home).read_bytes(), "media.json", FORMAT).bundles
    except (OSError, FormatInvalid):
        return ()


def _path(home: Home) -> Path:
    return home.folder / "media.json"


def _list(folder: Path) -> set[Mark]:
    """Plain files; none where there is no stick, or a bad one."""
    found: set[Mark] = set()
    try:
        for name in sorted(os.listdir(folder))[:MAX_FILES]:
            status = os.lstat(folder / name)
            if stat.S_ISREG(status.st_mode):
                found.add((name, status.st_size, status.st_mtime_ns))
    except OSError:
        return set()
    return found


def _read(path: Path) -> bytes | None:
    """A small file, or None for one that is too large or gone."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_STATEMENT_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= MAX_STATEMENT_BYTES else None
