"""A whole device and the fleet it belongs to, for tests of the daemon; loaded when one asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # emulations run tests that need neither
    from agent_fleet import TinyFleet
    from running_device import Device


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[TinyFleet]:
    """A broker and a server that says what a test wants it to say."""
    from agent_fleet import tiny_fleet

    with tiny_fleet(tmp_path) as running:
        yield running


@pytest.fixture
def device(tmp_path: Path, fleet: TinyFleet) -> Iterator[Device]:
    """A device that belongs to it; its daemon is not started yet."""
    from running_device import enrolled

    with enrolled(tmp_path, fleet) as made:
        yield made
