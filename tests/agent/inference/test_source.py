"""Inputs from a folder: each file once, later ones too, and a bad one never stops the stream."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import SourceMissing
from edge_agent.inference.source import SCAN_S, BadFile, FolderSource, Nothing, Sample


def write(path: Path, value: float, rows: int = 2, age: int = 0) -> None:
    np.savez(path, x=np.full((rows, 3), value, np.float32))
    os.utime(path, (1_000_000 + age, 1_000_000 + age))


def drain(source: FolderSource, start_s: float, seconds: float = 5.0) -> tuple[list[Any], float]:
    """All that comes in some seconds of pretended time, without what means nothing."""
    found: list[Any] = []
    now_s = start_s
    while now_s < start_s + seconds:
        item = source.next(now_s)
        if isinstance(item, Nothing):
            now_s += max(item.wait_s, 1e-3)
        else:
            found.append(item)
    return found, now_s


def origins(items: list[Any]) -> list[str]:
    return [item.origin if isinstance(item, Sample) else f"bad {item.name}" for item in items]


def test_files_come_row_by_row_oldest_first(tmp_path: Path) -> None:
    write(tmp_path / "b.npz", 1, age=0)
    write(tmp_path / "a.npz", 2, age=60)
    items, _ = drain(FolderSource(tmp_path), 0.0)
    assert origins(items) == ["b.npz:0", "b.npz:1", "a.npz:0", "a.npz:1"]
    assert items[0].inputs["x"].tolist() == [[1.0, 1.0, 1.0]]


def test_an_npy_file_is_called_x(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 3), np.float32))
    items, _ = drain(FolderSource(tmp_path), 0.0)
    assert items[0].inputs.keys() == {"x"}


def test_several_arrays_come_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", left=np.arange(2), right=np.arange(4).reshape(2, 2))
    items, _ = drain(FolderSource(tmp_path), 0.0)
    assert items[1].inputs["left"].tolist() == [1]
    assert items[1].inputs["right"].tolist() == [[2, 3]]


def test_a_file_that_arrives_later_is_picked_up_and_none_comes_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", 1)
    source = FolderSource(tmp_path)
    first, now_s = drain(source, 0.0)
    write(tmp_path / "b.npz", 2)
    second, now_s = drain(source, now_s)
    third, _ = drain(source, now_s)
    assert (origins(first), origins(second), third) == (
        ["a.npz:0", "a.npz:1"],
        ["b.npz:0", "b.npz:1"],
        [],
    )


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", 1, age=0)
    source = FolderSource(tmp_path)
    _, now_s = drain(source, 0.0)
    write(tmp_path / "a.npz", 5, age=60)
    items, _ = drain(source, now_s)
    assert items[0].inputs["x"][0, 0] == 5


def test_a_file_that_still_grows_waits(tmp_path: Path) -> None:
    write(tmp_path / "whole.npz", 1, rows=100)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "whole.npz").unlink()
    source, now_s, items = FolderSource(tmp_path), 0.0, []
    for part in range(1, 9):
        (tmp_path / "a.npz").write_bytes(content[: len(content) * part // 8])
        items.append(source.next(now_s))
        now_s += 0.3
    assert all(isinstance(item, Nothing) for item in items)
    assert len(drain(source, now_s)[0]) == 100


@pytest.mark.parametrize("name", [".a.npz", "a.npz.part", "a.npz.tmp", "notes.txt", "a.npz.d/x.npz"])
def test_names_that_are_not_finished_inputs_are_not_looked_at(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"half")
    assert drain(FolderSource(tmp_path), 0.0)[0] == []


def objects(path: Path) -> None:
    np.savez(path, x=np.array([{"a": 1}], dtype=object))


def uneven(path: Path) -> None:
    np.savez(path, a=np.zeros(2), b=np.zeros(3))


def scalar(path: Path) -> None:
    np.savez(path, x=np.float32(1))


def empty(path: Path) -> None:
    np.savez(path, x=np.zeros((0, 3)))


def text(path: Path) -> None:
    path.write_bytes(b"not an array")


def truncated(path: Path) -> None:
    write(path, 1)
    path.write_bytes(path.read_bytes()[:-40])


def huge(path: Path) -> None:
    """Sixty bytes that claim to be an array of a petabyte."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710656,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


@pytest.mark.parametrize("make", [objects, uneven, scalar, empty, text, truncated, huge])
def test_a_bad_file_is_refused_once_and_the_stream_goes_on(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "bad.npz")
    os.utime(tmp_path / "bad.npz", (1, 1))
    write(tmp_path / "good.npz", 1, rows=1)
    source = FolderSource(tmp_path)
    items, now_s = drain(source, 0.0)
    assert origins(items) == ["bad bad.npz", "good.npz:0"]
    assert isinstance(items[0], BadFile)
    assert "bad.npz" in items[0].detail
    assert "\n" not in items[0].detail
    assert drain(source, now_s)[0] == []


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\x05\x00{'a' "])
def test_a_bad_npy_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    items, _ = drain(FolderSource(tmp_path), 0.0)
    assert origins(items) == ["bad a.npy"]


def test_an_npy_file_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    items, _ = drain(FolderSource(tmp_path), 0.0)
    assert origins(items) == ["bad a.npy"]


def test_looping_begins_again_and_still_sees_new_files(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", 1, rows=1)
    (tmp_path / "bad.npz").write_bytes(b"")
    source = FolderSource(tmp_path, loop=True, rate_per_s=2)
    first, now_s = drain(source, 0.0, 4.0)
    assert origins(first).count("bad bad.npz") == 1
    assert origins(first).count("a.npz:0") >= 5
    write(tmp_path / "b.npz", 2, rows=1)
    second, _ = drain(source, now_s, 6.0)
    assert {"a.npz:0", "b.npz:0"} == set(origins(second))


def test_a_rate_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", 1, rows=1000)
    source = FolderSource(tmp_path, rate_per_s=20)
    items, _ = drain(source, 0.0, 5.0)
    assert 85 <= len(items) <= 100  # half a second goes to waiting for the file to settle


def test_a_long_pause_is_not_caught_up_with(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", 1, rows=1000)
    source = FolderSource(tmp_path, rate_per_s=10)
    _, now_s = drain(source, 0.0, 2.0)
    items, _ = drain(source, now_s + 3600, 1.0)
    assert len(items) <= 13


def test_a_folder_that_goes_away_and_comes_back_is_no_news(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.npz", 1, age=5)
    source = FolderSource(folder)
    _, now_s = drain(source, 0.0)
    folder.rename(tmp_path / "elsewhere")
    assert drain(source, now_s, 3 * SCAN_S)[0] == []
    (tmp_path / "elsewhere").rename(folder)
    assert drain(source, now_s + 10)[0] == []


def test_a_folder_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="is not a folder"):
        FolderSource(tmp_path / "nowhere")
