"""Faults while a device parts from what the fleet has withdrawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_harness import build_shim, compiler, cuts, judged_apart, kills, record


@pytest.mark.skipif(compiler() is None, reason="the shim needs a C compiler")
def test_nothing_withdrawn_answers_or_is_kept_after_faults_at_any_operation(tmp_path: Path) -> None:
    recording = record(tmp_path / "life", build_shim(tmp_path), ("first", "second", "withdrawn"))
    cases = [case for fault in (kills, cuts) for case in fault(recording, every=29)]
    chosen = [case for case in cases if case.what.startswith("withdrawn")]
    assert len(chosen) > 6
    assert any(mark.get("withdrawn") for case in chosen for mark in case.known)
    found = judged_apart(recording, chosen, tmp_path / "runs")
    assert [f"{o.what}: {o.faults}" for o in found if o.faults] == []
