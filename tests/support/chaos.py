"""The runtime `chaos` as a test uses it: installed, commanded, and in a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_bundles import build
from chaos_runtime import CHAOS_FILE

SUPPORT = Path(__file__).parent


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put the runtime where this process and its children find it; how to command it."""
    info = folder / "site" / "chaos_runtime-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-runtime\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgefleet.runtimes]\nchaos = chaos_runtime:RUNTIME\n")
    monkeypatch.syspath_prepend(str(info.parent))
    monkeypatch.setenv("PYTHONPATH", f"{info.parent}:{SUPPORT}")
    commands = folder / "chaos"
    monkeypatch.setenv(CHAOS_FILE, str(commands))
    commands.write_text("")

    def command(words: str) -> None:
        beside = commands.with_suffix(".new")
        beside.write_text(words)
        beside.replace(commands)

    return command


def bundle(*kinds: str, **fields: Any) -> bytes:
    """A bundle whose first artifact runs on the accelerator first, and on the CPU then.

    Args:
        kinds: As `agent_bundles.build` takes them.
        fields: As there.
    """
    return build(*kinds, artifact={"runtimes": ("chaos", "litert")}, **fields)
