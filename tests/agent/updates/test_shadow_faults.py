"""Faults while an assigned shadow is brought, switched to, and let go."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_harness import Recording, build_shim, compiler, cuts, judged_apart, kills, record

needs_compiler = pytest.mark.skipif(compiler() is None, reason="the shim needs a C compiler")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("faults")
    steps = ("first", "shadow", "shadow-switched", "shadow-dropped")
    return record(folder / "life", build_shim(folder), steps)


@needs_compiler
@pytest.mark.parametrize("fault", [kills, cuts])
def test_a_shadow_survives_faults_at_any_operation_or_is_brought_anew(
    recording: Recording, tmp_path: Path, fault: type
) -> None:
    cases = [case for case in fault(recording, every=61) if case.what.startswith("shadow")]
    assert len(cases) > 4
    found = judged_apart(recording, cases, tmp_path)
    assert [f"{o.what}: {o.faults}" for o in found if o.faults] == []


@needs_compiler
def test_a_document_that_is_named_before_it_is_written_is_noticed(
    recording: Recording, tmp_path: Path
) -> None:
    poorer = recording.without(lambda o: o.kind == "sync" and o.path == "home/shadow.json.new")
    moments = [case for case in cuts(poorer) if case.what.startswith("shadow: ") and not case.ahead]
    assert any(o.faults for o in judged_apart(poorer, moments[-1:], tmp_path))
