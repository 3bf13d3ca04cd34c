"""From a video, a folder of pictures or a pipe through the engine to labels in the answer log."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_fleet import until
from input_bundles import encoded, opened, picture, picture_bundle, video

from edge_agent.inference.answer_log import AnswerLog
from edge_agent.inference.engine import Engine
from edge_agent.inference.serving import Serving
from edge_agent.inference.source import BadFile, FolderSource, Missed, Nothing, Source
from edge_agent.input.sources import opened_source
from edge_contracts.messages import Window


def answered(
    folder: Path, source: Source, wanted: int, **rules: object
) -> tuple[list[dict[str, Any]], Window]:
    """The lines of the answer log and the window, once so many answers are there and the source is idle."""
    session, digest = opened(folder / "bundle", picture_bundle(**rules))
    lines = io.StringIO()
    engine = Engine(source, AnswerLog(lines).write)
    engine.switch(Serving.begin(digest, session, trial=False))
    engine.start()
    try:
        until(lambda: engine.totals.answered >= wanted and engine.idle_s(1e12) > 0, "all are answered")
        window = engine.cut(trial=False)
    finally:
        engine.stop()
        engine.switch(None)
    assert window is not None
    return [json.loads(line) for line in lines.getvalue().splitlines()], window


def test_frames_of_a_video_get_labels(tmp_path: Path) -> None:
    video(tmp_path / "v.avi", 6)
    with opened_source(str(tmp_path / "v.avi"), loop=False, rate_per_s=None) as source:
        lines, window = answered(tmp_path, source, 6)
    assert [line["input"] for line in lines] == [f"v.avi:{i}" for i in range(6)]
    for line in lines:
        (answer,) = line["answers"]
        (scores,) = np.array(next(iter(line["outputs"].values())))
        best = np.argsort(-scores, kind="stable")[:2].tolist()
        assert [one["index"] for one in answer["top"]] == best
    assert window.inferences == 6
    assert window.unserved == {}


def test_a_frozen_video_is_flagged_as_stuck(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="extra [camera]")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 24))
    for _ in range(5):
        writer.write(np.asarray(picture(32, 24)))
    writer.release()
    with opened_source(str(tmp_path / "v.avi"), loop=False, rate_per_s=None) as source:
        _, window = answered(tmp_path, source, 5, checks={"stuck_after": 3})
    assert window.flagged == {"stuck": 3}


def test_a_folder_takes_pictures_and_arrays_and_refuses_the_others_by_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.PNG").write_bytes(encoded(picture(30, 20)))
    (folder / "b.jpg").write_bytes(b"not a picture")
    (folder / "c.csv").write_text("a,b\n1,2\n")
    np.save(folder / "d.npy", np.zeros((2, 12, 12, 3), np.float32))
    (folder / "e.txt").write_text("not looked at")
    lines, window = answered(tmp_path, FolderSource(folder), 3)
    assert sorted(str(line["input"]) for line in lines) == ["a.PNG", "d.npy:0", "d.npy:1"]
    assert window.refused == {"damaged": 1, "media-type": 1}


def test_a_bad_picture_is_refused_once_in_a_loop(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(30, 20)))
    (folder / "b.png").write_bytes(b"not a picture")
    source = FolderSource(folder, loop=True)
    session, digest = opened(tmp_path / "bundle", picture_bundle())
    engine = Engine(source)
    engine.switch(Serving.begin(digest, session, trial=False))
    engine.start()
    try:
        until(lambda: engine.totals.answered >= 5, "it goes round")
        window = engine.cut(trial=False)
    finally:
        engine.stop()
        engine.switch(None)
    assert window is not None
    assert window.refused == {"damaged": 1}


class Once:
    """Gives what it was made with, then nothing."""

    def __init__(self, *items: Missed | BadFile) -> None:
        self.items = list(items)

    def next(self, now_s: float) -> Missed | BadFile | Nothing:
        return self.items.pop(0) if self.items else Nothing(0.01)


def test_what_was_missed_is_counted_by_reason_and_nobodys_fault(tmp_path: Path) -> None:
    source = Once(Missed("dropped", 3), Missed("camera-lost", 1), Missed("dropped", 2))
    lines, window = answered(tmp_path, source, 0)
    assert lines == []
    assert window.unserved == {"dropped": 5, "camera-lost": 1}
    assert (window.refused, window.errors) == ({}, {})
