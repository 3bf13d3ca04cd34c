"""Faults at operations on the disk: the harness, and a part of what benchmarks/faults.py does in full."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import fault_device
import pytest
from fault_disk import Disk, Operation, Tree
from fault_harness import (
    STEPS as WHOLE_LIFE,
)
from fault_harness import (
    Case,
    Recording,
    build_shim,
    compiler,
    cuts,
    judged_apart,
    kills,
    random_cuts,
    really_killed,
    record,
)

needs_compiler = pytest.mark.skipif(compiler() is None, reason="the shim needs a C compiler")
STEPS = ("first", "second", "by-hand")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def recording(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("faults") / "life", shim, STEPS)


def faults(recording: Recording, cases: Iterable[Case], folder: Path) -> list[str]:
    return [f"{o.what}: {o.faults}" for o in judged_apart(recording, cases, folder) if o.faults]


def test_every_step_of_the_whole_life_can_be_lived_after_those_before_it(tmp_path: Path) -> None:
    """The tests take a few steps of it; benchmarks/faults.py takes all, in this order."""
    life = fault_device.Life(tmp_path / "life")
    life.make()
    for step in WHOLE_LIFE:
        fault_device.main(str(life.folder), step)


@needs_compiler
def test_a_device_survives_a_kill_after_any_operation(recording: Recording, tmp_path: Path) -> None:
    assert faults(recording, kills(recording, every=41), tmp_path) == []


@needs_compiler
def test_a_device_survives_a_power_cut_after_any_operation(recording: Recording, tmp_path: Path) -> None:
    assert faults(recording, cuts(recording, every=29), tmp_path) == []


@needs_compiler
def test_a_device_survives_half_written_disks(recording: Recording, tmp_path: Path) -> None:
    assert faults(recording, random_cuts(recording, 8, Random(5)), tmp_path) == []


@needs_compiler
def test_a_device_survives_sigkill_in_the_middle_of_a_write(
    recording: Recording, shim: Path, tmp_path: Path
) -> None:
    step = recording.steps[1]
    middle = next(
        number
        for number, operation in enumerate((o for o in step.operations if o.kind != "mark"), start=1)
        if operation.kind == "write" and operation.path.endswith("state.json.new")
    )
    case = really_killed(recording, step, middle, True, shim, tmp_path / "killed")
    written = next(o for o in step.operations if o.path.endswith("state.json.new") and o.kind == "write")
    half = case.tree["home/state.json.new"]
    assert half is not None and 0 < len(half) < len(written.content), "the write was not torn"
    assert faults(recording, [case], tmp_path / "runs") == []


@needs_compiler
def test_a_key_given_with_a_bundle_is_trusted_before_the_bundle_counts(
    recording: Recording, tmp_path: Path
) -> None:
    found = [case for case in kills(recording) if case.what.startswith("by-hand: ")]
    counts = [case for case in found if "rename home/state.json.new" in case.what]
    assert faults(recording, counts[-1:], tmp_path) == []


@needs_compiler
@pytest.mark.parametrize(
    ("left_out", "at"),
    [
        ("home/state.json.new", "rename home/state.json.new"),  # renamed before its bytes are there
        ("home/slots/b.new/manifest.json", "write home/outbox.db-wal"),
        ("home/outbox.db-wal", "write home/outbox.db-wal"),
    ],
)
def test_a_sync_that_is_left_out_is_noticed(
    recording: Recording, tmp_path: Path, left_out: str, at: str
) -> None:
    poorer = recording.without(lambda o: o.kind == "sync" and o.path == left_out)
    later = [case for case in cuts(poorer) if at in case.what and case.what.startswith("second")]
    assert faults(poorer, later[-1:], tmp_path) != []


TREE: Tree = {"d": None, "d/f": b"old"}


def disk(*operations: Operation) -> Disk:
    made = Disk(TREE)
    for operation in operations:
        made.apply(operation)
    return made


def test_bytes_that_are_not_synced_are_seen_and_not_safe() -> None:
    made = disk(Operation("write", "d/f", offset=1, content=b"NEW"))
    assert made.everything()["d/f"] == b"oNEW"
    assert made.safe()["d/f"] == b"old"
    made.apply(Operation("sync", "d/f"))
    assert made.safe()["d/f"] == b"oNEW"


def test_a_new_name_needs_a_sync_of_its_folder_and_its_bytes_one_of_the_file() -> None:
    made = disk(Operation("create", "d/g"), Operation("write", "d/g", content=b"x"), Operation("sync", "d/g"))
    assert "d/g" not in made.safe()
    made.apply(Operation("sync", "d"))
    assert made.safe()["d/g"] == b"x"
    unsynced = disk(
        Operation("create", "d/g"), Operation("write", "d/g", content=b"x"), Operation("sync", "d")
    )
    assert unsynced.safe()["d/g"] == b""


def test_a_rename_is_whole_or_not_at_all() -> None:
    made = disk(Operation("create", "d/g"), Operation("sync", "d"), Operation("rename", "d/g", "d/f"))
    found = {tuple(sorted(made.survivor(Random(seed)).items())) for seed in range(50)}
    before: Tree = {"d": None, "d/f": b"old", "d/g": b""}
    after: Tree = {"d": None, "d/f": b""}
    assert found == {tuple(sorted(before.items())), tuple(sorted(after.items()))}


def test_sectors_of_a_write_arrive_each_for_itself() -> None:
    made = disk(Operation("write", "d/f", content=b"a" * 512 + b"b" * 512))
    found = {made.survivor(Random(seed))["d/f"] for seed in range(200)}
    old = b"old"
    assert {old, b"a" * 512, b"a" * 512 + b"b" * 512, old + bytes(509) + b"b" * 512} <= found
    assert all(content is not None and content[:1] in (b"o", b"a") for content in found)


def test_two_names_of_one_file_show_the_same() -> None:
    made = disk(Operation("link", "d/f", "d/h"), Operation("write", "d/f", content=b"NEW"))
    assert made.everything()["d/h"] == b"NEW"
    for seed in range(20):
        tree = made.survivor(Random(seed))
        assert "d/h" not in tree or tree["d/h"] == tree["d/f"]
