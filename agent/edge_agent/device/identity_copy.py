"""A second copy of what nothing else on the device can replace: who it is, whom it trusts, its keys.

    HOME/identity.copy    the digest of what follows, a line end, and one document with all the files (0600)

A file that is damaged gives way to its copy. Damaged is what its reader refuses, what is gone, and what has
other bytes than the copy although nobody has written it since: a medium that rots does not set the time of
the last change, and a flipped bit in a password is still a password. A file that was written since the copy
was made counts before it, so that neither a power cut between the two writes nor a person's edit goes back.

Where neither config.json nor device.key is there, somebody has taken them away on purpose (an image for many
devices): the copy does not bring them back. The review ring's key has no copy: it must be possible to forget
it (docs/decisions/0055). Who puts the files back is `mending.py`'s business.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.device.home import Home, write_durably
from edge_agent.errors import HomeInvalid
from edge_contracts.digest import digest_of
from edge_contracts.errors import ContractError, FormatInvalid
from edge_contracts.model import Count, Frozen, canonical_json, parse_json

log = logging.getLogger(__name__)

FORMAT = "edgefleet.identity-copy/1"

Check = Callable[[bytes], object]  # raises ContractError for what cannot be used


class CopiedFile(Frozen):
    """One file, as it was.

    Args:
        content: Base64.
        changed_ns: When it was written last, as the file system said.
    """

    content: str
    changed_ns: Count

    @property
    def plain(self) -> bytes:
        """What was in it."""
        return base64.b64decode(self.content)


class IdentityCopy(Frozen):
    """The document: files by name."""

    format: Literal["edgefleet.identity-copy/1"] = "edgefleet.identity-copy/1"
    files: Mapping[str, CopiedFile]


@dataclass(frozen=True)
class Sound:
    """What counts of a file.

    Args:
        content: None where there is none, and never was.
        fault: What is wrong with the file itself, in words; "" for nothing.
    """

    content: bytes | None
    fault: str = ""


def read_copy(home: Home) -> Mapping[str, CopiedFile]:
    """The copied files by name; none where the copy is missing or damaged, or config and key both are."""
    try:
        files = _read(home)
    except (OSError, FormatInvalid):
        return {}
    if home.config.name in files and not home.config.exists() and not home.key.exists():
        return {}
    return files


def is_damaged(home: Home) -> bool:
    """Whether there is a copy that cannot be read."""
    try:
        _read(home)
    except FileNotFoundError:
        return False
    except (OSError, FormatInvalid):
        return True
    return False


def _read(home: Home) -> Mapping[str, CopiedFile]:
    digest, _, content = home.identity_copy.read_bytes().partition(b"\n")
    if digest != digest_of(content).encode():
        raise FormatInvalid(f"{home.identity_copy} does not have the digest that it states")
    return parse_json(IdentityCopy, content, home.identity_copy.name, FORMAT).files


def sound(home: Home, path: Path, check: Check, comes_back: bool = True) -> Sound:
    """A file's content where it is sound, else that of its copy.

    Args:
        comes_back: Whether a file that is gone is damaged; else somebody has removed it.

    Raises:
        HomeInvalid: It cannot be read, and has no copy that could be used instead.
        ContractError: The check refuses it, and there is no such copy.
    """
    copied = read_copy(home).get(path.name)
    try:
        content = path.read_bytes()
        if copied is not None and content != copied.plain and _changed_ns(path) == copied.changed_ns:
            raise FormatInvalid(f"{path} has other bytes than were written")
        check(content)
        return Sound(content)
    except FileNotFoundError:
        if copied is None or not comes_back:
            return Sound(None)
        fault: Exception = HomeInvalid(f"{path} is missing")
    except OSError as error:
        fault = HomeInvalid(f"cannot read {path}: {error.strerror}")
    except ContractError as error:
        fault = error
    if copied is None:
        raise fault
    try:
        check(copied.plain)
    except ContractError:
        raise fault from None
    return Sound(copied.plain, str(fault))


def keep_copy(home: Home, *paths: Path) -> None:
    """Take files that were written a moment ago into the copy; on a disk that fails it stays as it was."""
    _store(home, {**read_copy(home), **_copied(paths)})


def keep_copies(home: Home, paths: Iterable[Path], as_they_are: Iterable[Path]) -> None:
    """Have a copy of these files and of nothing else; see `keep_copy`.

    Args:
        as_they_are: Files that are damaged and could not be put back: what there is of them stays.
    """
    before = read_copy(home)
    kept = {path.name: before[path.name] for path in as_they_are if path.name in before}
    _store(home, {**kept, **_copied(paths)})


def _copied(paths: Iterable[Path]) -> dict[str, CopiedFile]:
    found = {}
    for path in paths:
        try:
            content = base64.b64encode(path.read_bytes()).decode()
            found[path.name] = CopiedFile(content=content, changed_ns=_changed_ns(path))
        except OSError:
            continue
    return found


def _store(home: Home, files: Mapping[str, CopiedFile]) -> None:
    with suppress(OSError, FormatInvalid):
        if files == _read(home):
            return
    content = canonical_json(IdentityCopy(files=files))
    try:
        write_durably(home.identity_copy, digest_of(content).encode() + b"\n" + content)
    except HomeInvalid as error:
        log.warning("no second copy of the identity", extra={"reason": str(error)})


def _changed_ns(path: Path) -> int:
    return max(0, path.stat().st_mtime_ns)  # a clock may stand before 1970
