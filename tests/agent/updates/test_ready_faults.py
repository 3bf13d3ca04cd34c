"""Faults while a release is brought to lie ready, is switched to, and is called off."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_harness import build_shim, compiler, cuts, judged_apart, kills, record


@pytest.mark.skipif(compiler() is None, reason="the shim needs a C compiler")
def test_what_lies_ready_survives_faults_at_any_operation_or_is_brought_anew(tmp_path: Path) -> None:
    steps = ("first", "ready", "ready-switched", "ready-dropped")
    recording = record(tmp_path / "life", build_shim(tmp_path), steps)
    cases = [case for fault in (kills, cuts) for case in fault(recording, every=83)]
    chosen = [case for case in cases if case.what.startswith("ready")]
    assert len(chosen) > 6
    found = judged_apart(recording, chosen, tmp_path / "runs")
    assert [f"{o.what}: {o.faults}" for o in found if o.faults] == []
