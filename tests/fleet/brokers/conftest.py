"""One of each broker for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from running_broker import KINDS, Running, running_broker


@pytest.fixture(scope="module", params=sorted(KINDS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_broker(request.param, tmp_path_factory.mktemp("broker") / "b") as found:
        yield found
