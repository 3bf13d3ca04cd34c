"""Power that goes while `lineup set` works: what the document names afterwards is whole and verified."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent_bundles import KEY
from lineup_models import bundle

from edge_agent.device.config import trust, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.doubt import members, settings
from edge_agent.doubt.arranging import Wishes, arrange

OPERATIONS = ("fsync", "rename", "replace", "mkdir", "unlink")
EVERY = 3  # of the 23 points; each costs a start of Python


class PowerCut(BaseException):
    """Nothing that the code could handle."""


class Power:
    """Goes off before the n-th operation on the disk, and stays off."""

    def __init__(self, operations: int) -> None:
        self.left = operations

    def guard(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            if self.left <= 0:
                raise PowerCut
            self.left -= 1
            return real(*arguments, **named)

        return operation


def test_a_cut_leaves_the_lineup_of_before_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Home(tmp_path / "base")
    trust(base, KEY.public)
    for version in ("1", "2"):
        (tmp_path / f"{version}.bundle").write_bytes(bundle(0.4, version=version))
    arrange(base, Wishes.of(second=str(tmp_path / "1.bundle")))
    trusted, operations, done = trusted_publishers(base, None), 0, False
    versions: list[str] = []
    while not done:
        home = Home(tmp_path / f"home-{operations}")
        shutil.copytree(base.folder, home.folder)
        power = Power(operations)
        with monkeypatch.context() as patch:
            for name in OPERATIONS:
                patch.setattr(os, name, power.guard(getattr(os, name)))
            with suppress(PowerCut):
                arrange(home, Wishes.of(second=str(tmp_path / "2.bundle")))
                done = True
        digest = settings.read_lineup(home).second
        assert digest is not None
        verified = members.verify_folder(members.folder_of(home, digest), digest, trusted)
        versions.append(verified.manifest.version)
        operations += EVERY
    assert versions == sorted(versions)
    assert {"1", "2"} == set(versions)
    arrange(home, Wishes.of(second=str(tmp_path / "1.bundle")))  # the next command tidies up
    assert sum(path.is_dir() for path in (home.folder / "lineup").iterdir()) == 1
