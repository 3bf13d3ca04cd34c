"""Motion JPEG over HTTP, as network cameras send it, from a real server to frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from time import monotonic, sleep

import numpy as np
import pytest
from mjpeg_camera import Camera, mjpeg_camera

from edge_agent.inference.source import Frame, Missed, Nothing
from edge_agent.input import camera as reading
from edge_agent.input.camera import name_of, video_frames
from edge_agent.input.stream import Stream, StreamSource

FAST = (0.01, 0.05)
PATIENCE_S = 30.0


@pytest.fixture
def camera() -> Iterator[Camera]:
    with mjpeg_camera() as made:
        yield made


@pytest.fixture
def source(camera: Camera, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamSource]:
    monkeypatch.setattr(reading, "TIMEOUT_MS", 1000)
    name = name_of(camera.url)
    made = StreamSource(Stream(name, partial(video_frames, camera.url, name), live=True), retry_s=FAST)
    yield made
    made.close()


def frames(source: StreamSource, count: int) -> list[Frame]:
    """The next so many."""
    found: list[Frame] = []
    limit_s = monotonic() + PATIENCE_S
    while len(found) < count:
        assert monotonic() < limit_s, f"{len(found)} of {count} frames"
        item = source.next(monotonic())
        if isinstance(item, Frame):
            found.append(item)
        elif isinstance(item, Nothing):
            sleep(0.002)
    return found


def lost(source: StreamSource) -> None:
    """Wait until the camera counts as lost."""
    limit_s = monotonic() + PATIENCE_S
    while monotonic() < limit_s:
        item = source.next(monotonic())
        if isinstance(item, Missed) and item.reason == "camera-lost":
            return
        sleep(0.002)
    pytest.fail("the camera is not lost")


def test_pictures_arrive_as_they_were_taken(camera: Camera, source: StreamSource) -> None:
    found = frames(source, 12)
    levels = {int(np.asarray(one.load()).mean().round()) for one in found}
    assert levels <= {20 + 37 * i % 200 for i in range(8)}
    assert len(levels) > 1
    assert {np.asarray(one.load()).shape for one in found} == {(24, 32, 3)}
    assert found[0].origin.startswith("127.0.0.1/video:")
    assert camera.connections == 1


@pytest.mark.parametrize("wrong", ["end", "stall", "break", "refuse", "page"])
def test_a_camera_that_goes_is_counted_and_taken_again_when_it_is_back(
    camera: Camera, source: StreamSource, wrong: str
) -> None:
    frames(source, 3)
    camera.wrong = wrong if wrong not in ("refuse", "page") else "end"
    lost(source)
    camera.wrong = wrong
    lost(source)
    before, camera.wrong = camera.connections, ""
    assert len(frames(source, 8)) == 8  # more than could have waited
    assert camera.connections > before


def test_bytes_that_are_no_picture_are_no_frame_and_the_next_pictures_are(
    camera: Camera, source: StreamSource
) -> None:
    frames(source, 3)
    camera.wrong = "noise"
    lost(source)
    camera.wrong = ""
    for one in frames(source, 8)[4:]:
        assert np.asarray(one.load()).std() == 0, "a picture of one level"
