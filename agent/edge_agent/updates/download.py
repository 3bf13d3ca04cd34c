"""Fetching an archive: resumed where it broke off, never larger than stated, kept only with its digest.

A part that is there from before is continued with a Range request. Whether it is a part of the same
content needs no ETag: the name of the file is the digest, and the digest of the whole is checked at
the end. A part that turns out wrong is thrown away, so the next attempt begins anew.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from edge_agent.device.http import broken, opened
from edge_agent.errors import AgentError, HomeInvalid, NoSpace, ServerRefused, ServerUnreachable
from edge_contracts.digest import digest_of_file
from edge_contracts.errors import DigestMismatch

CHUNK_BYTES = 256 << 10
# Left free for the state, the outbox and whatever else lives on the device.
RESERVE_BYTES = 32 << 20


class Cancelled(AgentError):
    """The download is not wanted any more; what was fetched stays for another time."""

    code = "cancelled"


def fetch(
    url: str,
    digest: str,
    size_bytes: int,
    folder: Path,
    device: str,
    secret: str,
    ca: str = "",
    cancelled: Callable[[], bool] = lambda: False,
    free_bytes: Callable[[Path], int] | None = None,
) -> Path:
    """Download an archive, or finish a download.

    Args:
        size_bytes: Of the whole archive, as the assignment states it.
        folder: Where parts and archives lie; parts of other archives in it are removed.
        device, secret: What the server knows the device by.
        cancelled: Asked between pieces.
        free_bytes: How much room a folder's disk has.

    Returns:
        The file, complete and with its digest.

    Raises:
        NoSpace: The disk cannot hold it.
        ServerUnreachable: It broke off; the next call goes on from there.
        ServerRefused: The server does not give it, or gives something else.
        DigestMismatch: It has another content; the next call begins anew.
        Cancelled: As asked.
        HomeInvalid: The disk failed.
    """
    name = digest.removeprefix("sha256:")
    archive, part = folder / f"{name}.bundle", folder / f"{name}.part"
    _tidy(folder, keep={archive, part})
    if not archive.exists():
        require_space(folder, size_bytes - _size(part), free_bytes)
        headers = {
            "Authorization": f"Bearer {secret}",
            "X-Edge-Device": device,
            "Accept-Encoding": "identity",
        }
        if _size(part) > size_bytes:
            part.unlink()
        while _size(part) < size_bytes:
            before = _size(part)
            _continue(url, headers, ca, part, size_bytes, cancelled)
            if _size(part) <= before:
                raise ServerUnreachable(f"the server ended the archive at {before} of {size_bytes} bytes")
        part.replace(archive)
    found = digest_of_file(archive)
    if found != digest:
        archive.unlink()
        raise DigestMismatch(f"the archive that was fetched has digest {found}, assigned is {digest}")
    return archive


def require_space(folder: Path, needed_bytes: int, free_bytes: Callable[[Path], int] | None = None) -> None:
    """See that a disk can take so much more and still has its reserve.

    Raises:
        NoSpace: It cannot.
    """
    free = (free_bytes or _free)(folder)
    if free < needed_bytes + RESERVE_BYTES:
        raise NoSpace(
            f"{folder} has {free} bytes free, needed are {needed_bytes} and a reserve of {RESERVE_BYTES}"
        )


def _continue(
    url: str, headers: dict[str, str], ca: str, part: Path, size_bytes: int, cancelled: Callable[[], bool]
) -> None:
    """One request: append to the part what the server sends."""
    start = _size(part)
    ranged = {**headers, "Range": f"bytes={start}-"} if start else headers
    try:
        with opened(url, ranged, ca=ca) as answer:
            if answer.status != 206 or not _begins_at(answer, start):
                start = 0  # the server sends the whole
            with part.open("r+b" if part.exists() else "wb") as stream:
                if stream.seek(0, os.SEEK_END) > start:
                    stream.truncate(start)
                stream.seek(start)
                _copy(url, answer, stream.write, size_bytes - start, cancelled)
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{part.parent} ran full at {_size(part)} of {size_bytes} bytes") from None
        raise HomeInvalid(f"cannot write {part}: {error.strerror}") from None


def _copy(
    url: str,
    answer: HTTPResponse,
    write: Callable[[bytes], int],
    wanted: int,
    cancelled: Callable[[], bool],
) -> None:
    while wanted > 0:
        if cancelled():
            raise Cancelled("the download was called off")
        try:
            chunk = answer.read(min(CHUNK_BYTES, wanted))
        except (OSError, HTTPException) as error:
            raise broken(url, error) from None
        if not chunk:
            return
        write(chunk)
        wanted -= len(chunk)
    try:
        more = answer.read(1)
    except (OSError, HTTPException):
        return  # complete; how the connection ends does not matter
    if more:
        raise ServerRefused("the server sends more than the size of the archive that was assigned")


def _begins_at(answer: HTTPResponse, start: int) -> bool:
    """Whether a 206 answer is the range that was asked for: RFC 9110 section 14.4."""
    return (answer.headers.get("Content-Range") or "").replace(" ", "").startswith(f"bytes{start}-")


def _tidy(folder: Path, keep: set[Path]) -> None:
    for path in folder.iterdir():
        if path not in keep:
            path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
