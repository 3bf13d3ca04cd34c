"""What `edge-agent run --source` names: a folder, a camera, a video, a pipe."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edge_agent.errors import SourceMissing, StreamLost
from edge_agent.inference.source import FolderSource, Frame
from edge_agent.input import camera
from edge_agent.input.pipe import pipe_frames
from edge_agent.input.stream import Stream, StreamSource

STDIN = "-"


def is_live(target: str) -> bool:
    """Whether a source goes on for ever and does not wait."""
    return "://" in target or target.startswith("/dev/video")


@contextmanager
def opened_source(target: str, loop: bool, rate_per_s: float | None) -> Iterator[FolderSource | StreamSource]:
    """A source by its name.

    Args:
        target: "-" for the standard input, the URL or /dev/video* of a camera, a folder, a named pipe, or a
            video file.
        loop: Begin again at the end of a folder or a file.

    Raises:
        SourceMissing: There is no such folder, pipe or file.
        MissingExtra: OpenCV is needed and not installed.
    """
    path = Path(target)
    if not is_live(target) and target != STDIN and path.is_dir():
        yield FolderSource(path, loop, rate_per_s)
        return
    source = StreamSource(_stream(target, path, loop), rate_per_s)
    try:
        yield source
    finally:
        source.close()


def _stream(target: str, path: Path, loop: bool) -> Stream:
    if target == STDIN:
        return Stream("stdin", partial(_from_pipe, lambda: nullcontext(sys.stdin.buffer), "stdin"))
    if is_live(target):
        camera.import_opencv()
        name = camera.name_of(target)
        return Stream(name, partial(camera.video_frames, target, name), live=True)
    if not path.exists():
        raise SourceMissing(f"there is no {target}: expected a folder, a video, a named pipe, a camera or -")
    if stat.S_ISFIFO(path.stat().st_mode):
        frames = partial(_from_pipe, lambda: path.open("rb"), path.name)
        return Stream(path.name, frames, endless=True, release=partial(_touch, path))
    camera.import_opencv()
    return Stream(path.name, partial(camera.video_frames, target, path.name), again=loop)


def _from_pipe(
    opened: Callable[[], AbstractContextManager[BinaryIO]], name: str, wanted: Callable[[], bool]
) -> Iterator[Frame]:
    try:
        with opened() as stream:
            yield from pipe_frames(stream, name, wanted)
    except OSError as error:
        raise StreamLost(f"{name}: {error.strerror or error}") from None


def _touch(path: Path) -> None:
    """Be a writer for a moment, so that whoever waits for one goes on."""
    with suppress(OSError):  # nobody waits
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
