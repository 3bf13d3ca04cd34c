"""Streams as sources: what waits, what is dropped, what comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from input_bundles import video

from edge_agent.errors import SourceMissing, StreamLost
from edge_agent.inference.source import BadFile, Frame, Item, Missed, Nothing
from edge_agent.input.camera import name_of, video_frames
from edge_agent.input.sources import is_live, opened_source
from edge_agent.input.stream import CAPACITY, Stream, StreamSource

FAST = (0.01, 0.02)


def frame(number: int) -> Frame:
    return Frame(lambda: np.full((1, 4), number, np.float32), "", f"test:{number}")


def take(source: StreamSource, wanted: Callable[[list[Item]], bool]) -> list[Item]:
    """Everything but "nothing" until enough is there."""
    found: list[Item] = []
    limit = time.monotonic() + 20
    while not wanted(found):
        assert time.monotonic() < limit, found
        item = source.next(time.monotonic())
        if isinstance(item, Nothing):
            time.sleep(0.002)
        else:
            found.append(item)
    return found


def origins(items: list[Item]) -> list[str]:
    return [item.origin for item in items if isinstance(item, Frame)]


def missed(items: list[Item]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        if isinstance(item, Missed):
            counts[item.reason] = counts.get(item.reason, 0) + item.count
    return counts


def settled(source: StreamSource) -> None:
    """Wait until the reader is through or rests."""
    limit = time.monotonic() + 20
    while source._thread.is_alive() and time.monotonic() < limit:
        time.sleep(0.002)


# --- a live stream


def test_a_live_stream_drops_the_oldest_and_counts_it() -> None:
    through, go = threading.Event(), threading.Event()

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        yield from (frame(i) for i in range(10))
        through.set()
        go.wait(20)

    source = StreamSource(Stream("test", frames, live=True), retry_s=FAST)
    assert through.wait(20)
    items = take(source, lambda found: len(origins(found)) == CAPACITY)
    assert origins(items) == [f"test:{i}" for i in range(10 - CAPACITY, 10)]
    assert missed(items) == {"dropped": 10 - CAPACITY}
    go.set()
    source.close()


def test_a_camera_that_goes_away_is_opened_again_and_the_outage_is_counted() -> None:
    opened: list[int] = []

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        opened.append(len(opened))
        if len(opened) in (2, 3):
            raise StreamLost("unplugged")
        yield frame(len(opened))

    source = StreamSource(Stream("test", frames, live=True), retry_s=FAST)
    items = take(source, lambda found: len(origins(found)) >= 3)
    source.close()
    assert origins(items)[:3] == ["test:1", "test:4", "test:5"]
    assert missed(items)["camera-lost"] >= 3


def test_a_rate_leaves_frames_of_a_live_stream_out_before_they_are_decoded() -> None:
    asked: list[bool] = []
    through, go = threading.Event(), threading.Event()

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        for i in range(100):
            asked.append(wanted())
            if asked[-1]:
                yield frame(i)
        through.set()
        go.wait(20)

    source = StreamSource(Stream("test", frames, live=True), rate_per_s=0.01)
    assert through.wait(20)
    items = take(source, lambda found: len(found) == 1)
    assert origins(items) == ["test:0"]
    assert sum(asked) == 1
    assert missed(items) == {}
    go.set()
    source.close()


def test_an_open_stream_without_frames_is_not_idle_and_one_that_ended_is() -> None:
    go = threading.Event()

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        go.wait(20)
        yield from ()

    source = StreamSource(Stream("test", frames))
    before = source.next(0.0)
    assert isinstance(before, Nothing)
    assert not before.idle
    go.set()
    settled(source)
    after = source.next(0.0)
    assert isinstance(after, Nothing)
    assert after.idle
    source.close()


# --- a stream that waits


def test_a_file_loses_nothing_and_is_read_ahead_only_a_little() -> None:
    made = []

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        for i in range(50):
            made.append(i)
            yield frame(i)

    source = StreamSource(Stream("test", frames))
    first = take(source, lambda found: len(found) == 1)
    assert len(made) <= CAPACITY + 2
    items = first + take(source, lambda found: len(found) == 49)
    assert origins(items) == [f"test:{i}" for i in range(50)]
    source.close()


def test_a_stream_that_cannot_be_opened_is_refused_once() -> None:
    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        raise StreamLost("no such thing")

    source = StreamSource(Stream("test", frames, again=True))
    settled(source)
    assert source.next(0.0) == BadFile("test", "no such thing")
    assert isinstance(source.next(0.0), Nothing)
    source.close()


def test_closing_ends_a_reader_that_waits_for_room() -> None:
    source = StreamSource(Stream("test", lambda wanted: (frame(i) for i in range(50))))
    source.close()
    assert not source._thread.is_alive()


def test_arrivals_are_announced() -> None:
    came, go = threading.Event(), threading.Event()

    def frames(wanted: Callable[[], bool]) -> Iterator[Frame]:
        go.wait(20)
        yield frame(0)

    source = StreamSource(Stream("test", frames))
    source.announce(came.set)
    go.set()
    assert came.wait(20)
    source.close()


# --- real videos


def test_every_frame_of_a_video_file_comes_in_order_as_rgb(tmp_path: Path) -> None:
    levels = video(tmp_path / "v.avi", 12)
    with opened_source(str(tmp_path / "v.avi"), loop=False, rate_per_s=None) as source:
        assert isinstance(source, StreamSource)
        items = take(source, lambda found: len(found) == 12)
    assert origins(items) == [f"v.avi:{i}" for i in range(12)]
    for item, level in zip(items, levels, strict=True):
        assert isinstance(item, Frame)
        pixels = item.load()
        assert isinstance(pixels, np.ndarray)
        assert pixels.shape == (24, 32, 3)
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - level).max() <= 4  # JPEG


def test_red_is_the_first_channel(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="extra [camera]")
    writer = cv2.VideoWriter(str(tmp_path / "r.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 24))
    writer.write(np.full((24, 32, 3), (10, 20, 220), np.uint8))  # OpenCV's order: blue first
    writer.release()
    (only,) = video_frames(str(tmp_path / "r.avi"), "r.avi", lambda: True)
    pixels = only.load()
    assert isinstance(pixels, np.ndarray)
    assert pixels[..., 0].mean() > 200 > 50 > pixels[..., 2].mean()


def test_a_video_as_a_live_camera_is_reopened_at_its_end(tmp_path: Path) -> None:
    video(tmp_path / "v.avi", 3)
    frames = partial(video_frames, str(tmp_path / "v.avi"), "camera")
    source = StreamSource(Stream("camera", frames, live=True), retry_s=FAST)
    items = take(source, lambda found: origins(found).count("camera:2") >= 2)
    source.close()
    assert missed(items)["camera-lost"] >= 1


def test_a_looped_video_begins_again(tmp_path: Path) -> None:
    video(tmp_path / "v.avi", 3)
    with opened_source(str(tmp_path / "v.avi"), loop=True, rate_per_s=None) as source:
        assert isinstance(source, StreamSource)
        items = take(source, lambda found: len(found) == 7)
    assert origins(items)[:4] == ["v.avi:0", "v.avi:1", "v.avi:2", "v.avi:0"]


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="extra [camera]")
    (tmp_path / "v.avi").write_bytes(b"nothing of the kind")
    with opened_source(str(tmp_path / "v.avi"), loop=False, rate_per_s=None) as source:
        assert isinstance(source, StreamSource)
        (bad,) = take(source, lambda found: len(found) == 1)
    assert isinstance(bad, BadFile)
    assert "cannot be opened" in bad.detail


# --- names


def test_sources_are_told_by_their_names(tmp_path: Path) -> None:
    for live in ("rtsp://cam/1", "http://cam/mjpeg", "/dev/video0"):
        assert is_live(live)
    assert not is_live("video.mp4")
    with pytest.raises(SourceMissing, match="there is no"), opened_source("none.mp4", False, None):
        pass


def test_a_name_holds_no_password() -> None:
    assert name_of("rtsp://me:secret@cam.example:554/stream?key=secret") == "cam.example/stream"
    assert name_of("/dev/video0") == "video0"
