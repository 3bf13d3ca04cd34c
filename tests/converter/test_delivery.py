"""Delivery: at whatever call a build dies, the folder holds what it held, or all that the build made."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_convert.delivery import Delivery, recover

OLD = {"a.bundle": b"old a", "report.json": b"old", "notes.txt": b"mine"}
NEW = {"a.bundle": b"new a", "b.bundle": b"new b", "report.json": b"new"}
AFTER = OLD | NEW


class PowerCut(BaseException):
    """Nothing runs after it, not even what stands in `finally`: the folder is looked at as it lies."""


def filled(folder: Path) -> Path:
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    return folder


def held(folder: Path) -> dict[str, bytes]:
    """What a person sees there."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".")}


def deliver(folder: Path) -> None:
    with Delivery(folder) as delivery:
        for name, content in NEW.items():
            delivery.add(name, content)
        delivery.commit()


def cut_at(monkeypatch: pytest.MonkeyPatch, place: int, folder: Path) -> Path:
    """Run a delivery until its `place`-th call to the system; a copy of the folder as it lay then."""
    calls = 0
    lay = folder.with_name("lay")

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == place:
                shutil.copytree(folder, lay)
                raise PowerCut
            return real(*args, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("fsync", "rename", "replace", "rmdir"):
            patch.setattr(os, name, watched(getattr(os, name)))
        try:
            deliver(folder)
        except PowerCut:
            return lay
    raise IndexError(place)


def cuts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for place in range(1, 100):
        work = tmp_path / str(place)
        work.mkdir()
        try:
            yield cut_at(monkeypatch, place, filled(work / "out"))
        except IndexError:
            return


def test_a_power_cut_at_any_call_leaves_the_old_files_or_leads_to_the_new_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []
    for lay in cuts(monkeypatch, tmp_path):
        recover(lay)
        seen.append(held(lay) == AFTER)
        assert held(lay) in (OLD, AFTER)
        assert not [p for p in lay.iterdir() if p.name.startswith(".")]
    assert seen == sorted(seen)  # once committed, always committed
    assert {True, False} == set(seen)
    assert len(seen) >= len(NEW) * 2


def test_a_build_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), Delivery(folder) as delivery:
        delivery.add("a.bundle", b"half")
        raise KeyboardInterrupt
    assert held(folder) == OLD
    assert len(list(folder.iterdir())) == len(OLD)


def test_a_folder_made_for_a_stopped_build_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Delivery(tmp_path / "deep" / "out"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_living_builds_files_are_left_alone(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    with Delivery(folder) as first:
        first.add("b.bundle", b"first's")
        with Delivery(folder) as second:
            second.add("c.bundle", b"second's")
            second.commit()
        first.commit()
    assert held(folder) == OLD | {"b.bundle": b"first's", "c.bundle": b"second's"}


def test_a_folder_in_a_files_place_is_refused_before_anything_changes(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    (folder / "b.bundle").mkdir()
    with pytest.raises(IsADirectoryError):
        deliver(folder)
    (folder / "b.bundle").rmdir()
    assert held(folder) == OLD


def test_a_killed_build_leaves_nothing_that_the_next_one_does_not_clear(tmp_path: Path) -> None:
    folder = filled(tmp_path / "out")
    program = """
        import os, signal, sys
        from pathlib import Path
        from edge_convert.delivery import Delivery
        delivery = Delivery(Path(sys.argv[1]))
        delivery.add("a.bundle", b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert held(folder) == OLD
    assert len(list(folder.iterdir())) == len(OLD) + 1
    deliver(folder)
    assert held(folder) == AFTER
    assert len(list(folder.iterdir())) == len(AFTER)


def test_files_can_be_read_by_whoever_reads_the_folder(tmp_path: Path) -> None:
    deliver(tmp_path)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.bundle").stat().st_mode & 0o777 == 0o666 & ~umask
