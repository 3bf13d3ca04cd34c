"""What was meant: a near name is asked for, and all are listed unless the caller would not have them."""

from __future__ import annotations

from edge_contracts.nearest import meant


def test_a_near_name_is_asked_for_before_all_are_listed() -> None:
    assert meant("arm-cup", ["x86-cpu", "arm-cpu"]) == "; did you mean 'arm-cpu'? Known: arm-cpu, x86-cpu"


def test_without_a_near_name_all_are_listed() -> None:
    assert meant("toaster", ["x86-cpu", "arm-cpu"]) == "; known: arm-cpu, x86-cpu"


def test_keys_of_a_document_are_not_listed() -> None:
    assert meant("toaster", ["memory_bytes"], every=False) == ""
    assert meant("memory_byte", ["memory_bytes"], every=False) == "; did you mean 'memory_bytes'?"
