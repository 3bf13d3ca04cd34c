"""A real file system, ext4, that fills up or fails while a process works on it. No tests.

It is mounted in a namespace that one waiting process keeps: nobody else sees it, and it is gone with the last
process in there, however a test ends.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE_MIB = 64  # the agent leaves 32 of them alone
PROGRAMS = ("unshare", "nsenter", "mkfs.ext4", "e2fsck")
# The image is sparse, on a memory disk: where that is too small for it, blocks fail as those of a worn card.
BEGIN = f"""
mount -t tmpfs -o size=256m none "$1"
truncate -s {SIZE_MIB}m "$1/image"
mkfs.ext4 -q -m 0 -J size=4 "$1/image"
mount -o loop,errors=remount-ro "$1/image" "$2"
echo mounted
read -r _ || true
"""
# What was removed is free only when the journal has said so, and what is to be written takes more at first
# than in the end: so again, until not a block is left.
FILL = """
dd if=/dev/zero of="$2/junk" bs=64k || true
for n in $(seq 30); do
  sync -f "$2"
  dd if=/dev/zero of="$2/junk-$n" bs=1k || true
  sync -f "$2"
  [ -s "$2/junk-$n" ] || break
done
"""
# What is written meanwhile makes the size that was asked for too small.
WEAR_OUT = """
for n in $(seq 30); do
  used=$(du -k "$1/image" | cut -f 1)
  mount -o remount,size="$used"k "$1" && exit
done
exit 1
"""
MEND = 'rm -f "$2"/junk*; mount -o remount,size=256m "$1"'
AGAIN = """
umount "$2"
mount -o remount,size=256m "$1"
e2fsck -fy "$1/image" >/dev/null || [ $? = 1 ]
mount -o loop,errors=remount-ro "$1/image" "$2"
"""


class RealDisk:
    """The disk, while its keeper lives.

    Args:
        place: An empty folder for it.

    Attributes:
        folder: Where it is mounted.
        prefix: What to put before a command for it to see the disk.
    """

    def __init__(self, place: Path, keeper: int) -> None:
        self.folder, self._back = place / "disk", place / "back"
        self.prefix = ["nsenter", "--target", str(keeper), "--mount", "--"]

    def fill(self) -> None:
        """Take the last block."""
        self._do(FILL)

    def abort(self) -> None:
        """Have the kernel find the file system damaged: it lets nothing be written any more."""
        mounts = self._do('grep " $2 " /proc/mounts')
        loop = Path(mounts.split()[0]).name
        Path(f"/sys/fs/ext4/{loop}/trigger_fs_error").write_text("damaged by a test\n")

    def wear_out(self) -> None:
        """Let no block that was not written before be written."""
        self._do(WEAR_OUT)

    def mend(self) -> None:
        """Give back what `fill` or `wear_out` took."""
        self._do(MEND)

    def mount_again(self) -> None:
        """Check it and mount it again, as a start of the machine does; nobody may use it."""
        self._do(AGAIN)

    def _do(self, script: str) -> str:
        line = [*self.prefix, "sh", "-ec", script, "sh", str(self._back), str(self.folder)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def real_disk(place: Path) -> Iterator[RealDisk]:
    """A disk of its own; skipped where none can be made."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: no file system of its own can be made")
    (place / "disk").mkdir(parents=True)
    (place / "back").mkdir()
    line = ["unshare", "--mount", "sh", "-ec", BEGIN, "sh", str(place / "back"), str(place / "disk")]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as keeper:
        assert keeper.stdin and keeper.stdout and keeper.stderr
        if keeper.stdout.readline() != "mounted\n":
            pytest.skip(f"no file system of its own can be mounted here: {keeper.stderr.read():.200}")
        try:
            yield RealDisk(place, keeper.pid)
        finally:
            keeper.stdin.close()
