"""Room that is taken on the disk before a download."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import HomeInvalid, NoSpace
from edge_agent.updates.room import RESERVE_BYTES, Room

MB = 1 << 20


def taken(folder: Path) -> int:
    """Bytes on the disk, not only in the length."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_what_is_reserved_is_taken_from_the_disk_and_given_back(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.reserve(4 * MB)
    assert taken(tmp_path) >= 4 * MB
    room.shrink_to(MB)
    assert MB <= taken(tmp_path) < 2 * MB
    room.shrink_to(3 * MB)
    assert taken(tmp_path) < 2 * MB, "shrinking has made it larger"
    room.shrink_to(0)
    assert list(tmp_path.iterdir()) == []
    room.give_back()  # what is not there is given back, too
    room.shrink_to(MB)
    assert list(tmp_path.iterdir()) == []


def test_what_is_reserved_anew_is_not_counted_beside_what_was_before(tmp_path: Path) -> None:
    def free(folder: Path) -> int:
        return 2 * MB + RESERVE_BYTES - taken(folder)

    room = Room(tmp_path)
    room.reserve(2 * MB, free)  # just enough
    room.reserve(2 * MB, free)
    room.reserve(MB, free)
    assert MB <= taken(tmp_path) < 2 * MB
    with pytest.raises(NoSpace):
        room.reserve(2 * MB + 1, free)
    room.reserve(0, free)
    assert list(tmp_path.iterdir()) == []


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    Room(tmp_path).reserve(MB)
    with pytest.raises(NoSpace):
        Room(tmp_path).reserve(1 << 55, lambda _: 1 << 60)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_disk_without_room_and_its_reserve_is_refused_with_both_figures(tmp_path: Path) -> None:
    with pytest.raises(
        NoSpace, match=f"has {MB} bytes free, needed are {MB} and a reserve of {RESERVE_BYTES}"
    ):
        Room(tmp_path).reserve(MB, lambda _: MB)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_disk_takes_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(NoSpace, match="cannot take"):
        Room(tmp_path).reserve(1 << 55, lambda _: 1 << 60)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_the_disks_fault(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    with pytest.raises(HomeInvalid):
        Room(tmp_path).reserve(MB)
