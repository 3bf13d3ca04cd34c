"""Fetching an archive: resumed where it broke off, never larger than stated, kept only with its digest.

A part that is there from before is continued with a Range request, with If-Range when the server gave an
ETag: a server whose file has changed then sends the whole. What decides is the digest of the whole at the
end; a part that turns out wrong is thrown away, so the next attempt begins anew.

Room for the archive and for what comes out of it is taken before the first byte (`room.py`); how much may
be fetched now is the meter's word (`budget.py`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from edge_agent.device.home import write_durably
from edge_agent.device.http import broken, opened
from edge_agent.device.patience import SLOW_BYTES, SLOW_S, Patience
from edge_agent.errors import (
    AgentError,
    DownloadWaits,
    HomeInvalid,
    NoSpace,
    RanFull,
    ServerRefused,
    ServerUnreachable,
)
from edge_agent.updates.budget import DataMeter
from edge_agent.updates.room import Room
from edge_contracts.digest import digest_of_file
from edge_contracts.errors import DigestMismatch

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
UNPACKED = 2  # times the archive's size that its content may need: weights hardly compress
USUAL_BYTES = 16 << 10  # of a head: not charged to the budget
_STRONG_ETAG = re.compile(r'^"[\x21\x23-\x7e]{1,200}"$')  # RFC 9110 section 8.8.3; a weak one proves nothing


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
    meter: DataMeter | None = None,
    freed_bytes: int = 0,
    clock: Callable[[], float] = monotonic,
) -> Path:
    """Download an archive, or finish a download.

    Args:
        size_bytes: Of the whole archive, as the assignment states it.
        folder: Where parts and archives lie; parts of other archives in it are removed.
        device, secret: What the server knows the device by.
        cancelled: Asked between pieces.
        free_bytes: How much room a folder's disk has.
        meter: Says how much may be fetched now; None for no bound.
        freed_bytes: What will be removed before the archive is unpacked.
        clock: Monotonic seconds, to tell a slow server from a dead one.

    Returns:
        The file, complete and with its digest.

    Raises:
        NoSpace: The disk cannot hold it; not a byte was fetched.
        RanFull: It cannot any more; the next call goes on from there.
        DownloadWaits: It may not run now, or not as far as this; the next call goes on from there.
        ServerBusy: The server wants to be asked later.
        ServerUnreachable: It broke off, or is too slow to be there; the next call goes on from there.
        ServerRefused: The server does not give it, or gives something else.
        DigestMismatch: It has another content; the next call begins anew.
        Cancelled: As asked.
        HomeInvalid: The disk failed; the next call goes on from there, too.
    """
    name = digest.removeprefix("sha256:")
    archive, part = folder / f"{name}.bundle", folder / f"{name}.part"
    headers = {"Authorization": f"Bearer {secret}", "X-Edge-Device": device, "Accept-Encoding": "identity"}
    with _failing_disk(folder):
        _tidy(folder, keep={archive, part, part.with_suffix(".etag")})
        room, unpacked = Room(folder), max(0, UNPACKED * size_bytes - freed_bytes)
        if not archive.exists():
            if _size(part) > size_bytes:
                _forget(part)
            pull = _Pull(url, headers, ca, part, size_bytes, cancelled, meter, clock, room, unpacked)
            pull.all(free_bytes)
            part.replace(archive)
            part.with_suffix(".etag").unlink(missing_ok=True)
        found = digest_of_file(archive)
        if found != digest:
            archive.unlink()
            room.give_back()
            raise DigestMismatch(f"the archive that was fetched has digest {found}, assigned is {digest}")
    return archive


@contextmanager
def _failing_disk(folder: Path) -> Iterator[None]:
    """What the system says of the disk, as an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RanFull(f"{folder} ran full") from None
        raise HomeInvalid(f"cannot use {folder}: {error.strerror}") from None


@dataclass(frozen=True)
class _Pull:
    """What each request of one download needs."""

    url: str
    headers: dict[str, str]
    ca: str
    part: Path
    size_bytes: int
    cancelled: Callable[[], bool]
    meter: DataMeter | None
    clock: Callable[[], float]
    room: Room
    unpacked_bytes: int

    def all(self, free_bytes: Callable[[Path], int] | None) -> None:
        """Take the room, and make the part whole in it."""
        part, size_bytes, begun = self.part, self.size_bytes, _size(self.part)
        try:
            self.room.reserve(size_bytes - begun + self.unpacked_bytes, free_bytes)
        except NoSpace as error:
            if begun:
                raise RanFull(str(error)) from None
            raise
        try:
            while _size(part) < size_bytes:
                before = _size(part)
                self.go_on()
                if _size(part) <= before:
                    raise ServerUnreachable(f"the server ended the archive at {before} of {size_bytes} bytes")
        except (DownloadWaits, ServerUnreachable):
            raise  # it goes on later, in the room that is kept
        except BaseException:  # what was kept may be what is missing; raised again
            self.room.give_back()
            raise

    def go_on(self) -> None:
        """One request: append to the part what the server sends."""
        part, start = self.part, _size(self.part)
        if self.meter is not None:
            self.meter.take(1)  # before anybody is asked for anything
        ranged = {**self.headers, "Range": f"bytes={start}-"} if start else self.headers
        etag = _read_etag(part) if start else ""
        if etag:
            ranged = {**ranged, "If-Range": etag}
        patience = Patience(self.size_bytes)
        try:
            with opened(self.url, ranged, ca=self.ca, patience=patience) as answer:
                if answer.status != 206:
                    start = 0  # the server sends the whole: it knows no ranges, or its file has changed
                elif not _begins_at(answer, start, self.size_bytes):
                    raise ServerRefused(
                        f"the server sends range {answer.headers.get('Content-Range', 'none')!r:.80}, "
                        f"asked for was {start}- of {self.size_bytes} bytes"
                    )
                self._require_length(answer, start)
                self._keep_etag(answer)
                with part.open("r+b" if part.exists() else "wb") as stream:
                    if stream.seek(0, os.SEEK_END) > start:
                        stream.truncate(start)
                    stream.seek(start)
                    try:
                        self._copy(answer, stream, start)
                    except BaseException:  # of whatever kind; raised again
                        with contextlib.suppress(OSError):  # what came counts, but the reason counts more
                            _sync(stream)
                        raise
                    _sync(stream)
        except ServerRefused:
            _forget(part)  # whatever it was a part of: the next attempt asks for the whole
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RanFull(f"{part.parent} ran full at {_size(part)} of {self.size_bytes} bytes") from None
            raise HomeInvalid(f"cannot write {part}: {error.strerror}") from None
        finally:
            beside = patience.count - max(0, _size(part) - start)
            if self.meter is not None and beside > USUAL_BYTES:
                self.meter.beside(beside)

    def _require_length(self, answer: HTTPResponse, start: int) -> None:
        """Refuse what says itself that it is too long, before a byte of it is paid for."""
        if answer.length is not None and answer.length > self.size_bytes - start:
            raise ServerRefused(
                f"the server sends more than the size of the archive that was assigned: "
                f"{start} + {answer.length} bytes of {self.size_bytes}"
            )

    def _keep_etag(self, answer: HTTPResponse) -> None:
        etag = answer.headers.get("ETag") or ""
        path = self.part.with_suffix(".etag")
        if not _STRONG_ETAG.match(etag):
            path.unlink(missing_ok=True)
        elif etag != _read_etag(self.part):
            if answer.status == 206 and _read_etag(self.part):
                raise ServerRefused("the server's archive has changed in the middle of the download")
            if answer.status != 206:
                self.part.unlink(missing_ok=True)  # no part of the old file under the new one's name
            write_durably(path, etag.encode())

    def _copy(self, answer: HTTPResponse, stream: BinaryIO, start: int) -> None:
        wanted = self.size_bytes - start
        since_s, since_left = self.clock(), wanted
        while wanted > 0:
            if self.cancelled():
                raise Cancelled("the download was called off")
            size = min(CHUNK_BYTES, wanted)
            if self.meter is not None:
                size = self.meter.take(size)
            try:
                chunk = answer.read1(size)  # what there is, so that each piece can be judged
            except (OSError, HTTPException) as error:
                raise broken(self.url, error) from None
            if not chunk:
                return
            if self.meter is not None:
                self.meter.fetched(len(chunk))
            wanted -= len(chunk)
            self.room.shrink_to(wanted + self.unpacked_bytes)
            stream.write(chunk)
            now_s = self.clock()
            if now_s - since_s >= SLOW_S:
                if since_left - wanted < SLOW_BYTES:
                    raise ServerUnreachable(
                        f"the server sent {since_left - wanted} bytes in {now_s - since_s:.0f} s"
                    )
                since_s, since_left = now_s, wanted
        try:
            more = answer.read1(1)
        except (OSError, HTTPException):
            return  # complete; how the connection ends does not matter
        if more:
            raise ServerRefused("the server sends more than the size of the archive that was assigned")


def _begins_at(answer: HTTPResponse, start: int, size_bytes: int) -> bool:
    """Whether a 206 answer is the range that was asked for, of a file of that size: RFC 9110 section 14.4."""
    found = (answer.headers.get("Content-Range") or "").replace(" ", "")
    total = found.rpartition("/")[2]
    return found.startswith(f"bytes{start}-") and total in ("*", str(size_bytes))


def _tidy(folder: Path, keep: set[Path]) -> None:
    """Remove what belongs to other downloads, and say so."""
    for path in folder.iterdir():
        if path not in keep:
            freed = _size(path)
            path.unlink(missing_ok=True)
            if path.suffix in (".part", ".bundle"):
                log.info(
                    "removed", extra={"file": path.name, "bytes": freed, "reason": "another is assigned"}
                )


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_suffix(".etag").unlink(missing_ok=True)


def _read_etag(part: Path) -> str:
    try:
        etag = part.with_suffix(".etag").read_text(errors="replace")
    except OSError:
        return ""
    return etag if _STRONG_ETAG.match(etag) else ""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
