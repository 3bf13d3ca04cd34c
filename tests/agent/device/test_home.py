"""The agent's folder: one agent at a time, and looking at it keeps nobody from starting."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from edge_agent.device.home import Home
from edge_agent.errors import HomeLocked


def test_a_look_at_the_lock_in_the_moment_of_a_start_does_not_refuse_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    home.lock.touch()
    looking = os.open(home.lock, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)  # as `holder` does, for a moment
    timer = threading.Timer(0.05, os.close, [looking])
    timer.start()
    with home.locked():
        assert home.holder() == os.getpid()
    timer.join()


def test_a_second_agent_is_refused_with_the_firsts_process(tmp_path: Path) -> None:
    with (
        Home(tmp_path).locked(),
        pytest.raises(HomeLocked, match=f"process {os.getpid()}"),
        Home(tmp_path).locked(),
    ):
        pass
    assert Home(tmp_path).holder() is None
