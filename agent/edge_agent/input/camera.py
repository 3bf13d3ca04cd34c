"""Frames of cameras and video files, by OpenCV (extra `[camera]`), which is imported when one is opened."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import StreamLost
from edge_agent.inference.source import Frame
from edge_contracts.errors import MissingExtra

TIMEOUT_MS = 10_000  # to open a network camera, and to get its next frame


def import_opencv() -> Any:
    """The module cv2.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        opencv = importlib.import_module("cv2")
    except ModuleNotFoundError:
        raise MissingExtra("cameras and videos need OpenCV; pip install 'edgefleet[camera]'") from None
    opencv.setNumThreads(1)
    return opencv


def video_frames(target: str, name: str, wanted: Callable[[], bool]) -> Iterator[Frame]:
    """Frames of a device, a URL or a file, as RGB.

    Args:
        target: As OpenCV takes it.
        name: For origins.
        wanted: Whether the next frame has to be decoded.

    Raises:
        StreamLost: It cannot be opened.
    """
    opencv = import_opencv()
    capture = _opened(opencv, target)
    try:
        if not capture.isOpened():
            raise StreamLost(f"{name} cannot be opened: no such device or file, or no video")
        number = 0
        while capture.grab():
            if wanted():
                good, pixels = capture.retrieve()
                if good:
                    yield Frame(partial(_rgb, opencv, pixels), "", f"{name}:{number}")
            number += 1
    finally:
        capture.release()


def name_of(target: str) -> str:
    """A target without what is secret in it: of a URL host and path."""
    parts = urlsplit(target)
    if not parts.netloc:
        return target.rsplit("/", 1)[-1]
    return f"{parts.hostname}{parts.path}"


def _opened(opencv: Any, target: str) -> Any:
    if "://" not in target:
        return opencv.VideoCapture(target)
    timeouts = [opencv.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, opencv.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    return opencv.VideoCapture(target, opencv.CAP_FFMPEG, timeouts)


def _rgb(opencv: Any, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV's order turned round; a camera that is grey gets three equal channels."""
    code = opencv.COLOR_GRAY2RGB if pixels.ndim == 2 else opencv.COLOR_BGR2RGB
    return np.asarray(opencv.cvtColor(pixels, code))
