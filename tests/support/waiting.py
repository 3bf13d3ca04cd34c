"""Waiting for what other processes and threads bring about."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import pytest

PATIENCE_S = 180.0  # a machine that is busy gives a process of low priority a hundredth of a core


def until(question: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    """The first true answer to a question; fails the test when there is none."""
    deadline_s = monotonic() + within_s
    while monotonic() < deadline_s:
        if answer := question():
            return answer
        sleep(0.02)
    pytest.fail(f"not within {within_s:g} s: {what}")
