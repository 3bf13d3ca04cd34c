"""A command that sees its own mounts, disks that are read-only or small, and nobody else does. No tests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def mounted(
    mount: str, folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command after `mount`, shell in which $AT is the folder; skips where nothing can be mounted."""
    line = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f'AT="$1"; {mount}; shift; exec "$@"',
        "sh",
        str(folder),
        *command,
    ]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment)
    except FileNotFoundError:
        pytest.skip("no unshare: nothing can be mounted for one process")
    if "permission denied" in done.stderr.lower() or "not permitted" in done.stderr.lower():
        pytest.skip("nothing can be mounted here")
    return done


READ_ONLY = 'mount --bind "$AT" "$AT"; mount -o remount,bind,ro "$AT"'
