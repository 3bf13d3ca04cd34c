"""Whether a disk takes anything, asked of real file systems."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from own_mounts import READ_ONLY, mounted

from edge_agent.device.writable import why_unwritable

ASK = (
    "import sys; from pathlib import Path; from edge_agent.device.writable import why_unwritable; "
    "print(why_unwritable(Path(sys.argv[1])))"
)


def test_a_folder_that_takes_files_has_no_reason_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert why_unwritable(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_says_nothing_of_its_disk(tmp_path: Path) -> None:
    assert why_unwritable(tmp_path / "none") == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="no mode holds root")
def test_who_may_not_write_is_told_nothing_of_the_disk(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert why_unwritable(tmp_path) == ""


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        (READ_ONLY, "Read-only file system"),
        # full, with room for names
        (
            'mount -t tmpfs -o size=64k none "$AT"; cat /dev/zero > "$AT/junk" 2>/dev/null || true',
            "No space left on device",
        ),
    ],
    ids=["read-only", "full"],
)
def test_a_disk_that_takes_nothing_says_why(tmp_path: Path, mount: str, reason: str) -> None:
    done = mounted(mount, tmp_path, sys.executable, "-c", ASK, str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, reason), done.stderr
