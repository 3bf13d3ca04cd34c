"""Faults while one director hands over to the next, and while a publisher replaces a stolen one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_disk import Operation
from fault_harness import Recording, build_shim, compiler, cuts, judged_apart, kills, record


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    if compiler() is None:
        pytest.skip("the shim needs a C compiler")
    folder = tmp_path_factory.mktemp("directors")
    yield record(folder / "life", build_shim(folder), ("first", "redirected"))


def test_a_device_obeys_one_director_after_a_fault_at_any_operation(
    recording: Recording, tmp_path: Path
) -> None:
    cases = [case for fault in (kills, cuts) for case in fault(recording, every=61)]
    chosen = [case for case in cases if case.what.startswith("redirected")]
    assert len(chosen) > 4
    found = judged_apart(recording, chosen, tmp_path / "runs")
    assert [f"{o.what}: {o.faults}" for o in found if o.faults] == []


def test_a_statement_that_is_not_synced_is_noticed(recording: Recording, tmp_path: Path) -> None:
    def unsynced(operation: Operation) -> bool:
        return operation.kind == "sync" and operation.path == "home"

    cases = list(cuts(recording.without(unsynced), every=1))
    last = [case for case in cases if any("obeys" in mark for mark in case.known)][:1]
    assert last
    found = judged_apart(recording, last, tmp_path / "runs")
    assert any("is obeyed" in fault for outcome in found for fault in outcome.faults)
