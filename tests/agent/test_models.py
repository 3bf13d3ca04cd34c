"""The types of everything that the agent keeps in files."""

from __future__ import annotations

from model_types import faults_of, models_of

import edge_agent


def test_no_number_that_is_kept_may_be_infinite_and_no_text_has_two_forms() -> None:
    kinds = models_of(edge_agent)
    assert len(kinds) > 20
    assert [fault for kind in kinds for fault in faults_of(kind)] == []
