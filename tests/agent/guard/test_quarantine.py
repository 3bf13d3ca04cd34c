"""What is quarantined stays so over a restart, waits longer each time, and bars just what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.device.home import Home
from edge_agent.errors import NotQuarantined
from edge_agent.guard.ladder import Rung
from edge_agent.guard.quarantine import Entry, GuardStore, Quarantine, subject_of
from edge_agent.guard.retrials import lift, prune
from edge_agent.runtimes.choice import Option

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
TPU, CPU = Option("int8", "edgetpu", "EDGETPU"), Option("int8", "litert", "CPU")
CPU_FLOAT = Option("float32", "litert", "CPU")


def entry(option: Option = TPU, bundle: str = ONE) -> Entry:
    return Entry(subject=subject_of(option, bundle), code="runtime-hung", detail="no answer", since_ms=1)


def test_an_accelerator_is_barred_for_every_bundle_a_cpu_for_one_artifact() -> None:
    ways = {TPU: "", CPU: "", CPU_FLOAT: ""}
    accelerator = Quarantine().put(entry(TPU))
    assert list(accelerator.barred(ways, OTHER)) == [TPU]
    assert "runtime-hung: no answer" in accelerator.barred(ways, ONE)[TPU]
    cpu = Quarantine().put(entry(CPU))
    assert list(cpu.barred(ways, ONE)) == [CPU]
    assert cpu.barred(ways, OTHER) == {}


def test_it_is_tried_again_after_a_quarter_of_an_hour_then_after_twice_as_long_at_most_a_day() -> None:
    quarantine = Quarantine().put(entry())
    subject = entry().subject
    for wait_s in (900, 1800, 3600):
        assert quarantine.after(wait_s - 1).due() == []
        assert [e.subject for e in quarantine.after(wait_s).due()] == [subject]
        quarantine = quarantine.after(wait_s).failed_again(subject, "crash", "again")
        assert quarantine.entries[subject].waited_s == 0
    for _ in range(30):
        quarantine = quarantine.failed_again(subject, "crash", "again")
    assert quarantine.entries[subject].retry_s == 86_400
    assert quarantine.entries[subject].detail == "again"


def test_it_is_there_after_a_restart_and_a_damaged_document_is_an_empty_one_that_says_so(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    store = GuardStore(home)
    store.put(Quarantine().put(entry()))
    store.save(store.record.model_copy(update={"rung": Rung.ABSTAIN, "why": "no way left"}))
    again = GuardStore(home)
    assert again.record == store.record
    assert again.quarantine.entries == {entry().subject: entry()}
    path = tmp_path / "guard.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-20])
    assert "guard.json is not JSON" in GuardStore(home).lost
    assert GuardStore(home).quarantine.entries == {}


def test_a_disk_that_takes_nothing_does_not_let_it_out(tmp_path: Path) -> None:
    store = GuardStore(Home(tmp_path / "gone"))  # a folder that is not there
    store.put(Quarantine().put(entry()))
    assert list(store.quarantine.entries) == [entry().subject]


def test_lifting_takes_out_what_is_named_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    store = GuardStore(Home(tmp_path))
    store.put(Quarantine().put(entry(TPU)).put(entry(CPU)))
    with pytest.raises(NotQuarantined, match=r"'gpu' is not in quarantine; there is edgetpu/EDGETPU, litert"):
        lift(store, "gpu")
    assert [e.subject for e in lift(store, "edgetpu/EDGETPU")] == ["edgetpu/EDGETPU"]
    assert list(GuardStore(Home(tmp_path)).quarantine.entries) == [entry(CPU).subject]
    lift(store, "all")
    assert json.loads((tmp_path / "guard.json").read_text())["entries"] == []


def test_what_was_quarantined_for_a_bundle_goes_with_it(tmp_path: Path) -> None:
    store = GuardStore(Home(tmp_path))
    store.put(Quarantine().put(entry(TPU)).put(entry(CPU, ONE)).put(entry(CPU, OTHER)))
    prune(store, {OTHER})
    assert sorted(store.quarantine.entries) == ["edgetpu/EDGETPU", entry(CPU, OTHER).subject]


def test_a_person_is_told_how_long_it_still_waits() -> None:
    assert str(entry().model_copy(update={"since_ms": 1_577_836_800_000, "waited_s": 300.0})) == (
        f"{entry().subject} since 2020-01-01T00:00:00+00:00 (runtime-hung: no answer); "
        "tried again in 10 min of work"
    )
    assert "again in 0 min" in str(entry().model_copy(update={"waited_s": 5000.0}))
