"""What all tests share: where real models and data may be, and a reason when they are not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge_convert.device import arm
from edge_convert.errors import EmulationMissing

# tests import openvino as an oracle, some before any module of ours: it must not call home then either
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

SHARED_DATA = Path(os.environ.get("EDGEFLEET_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data; the test is skipped where it is not beside the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real models and data at {SHARED_DATA}; set EDGEFLEET_DATA to their folder")
    return SHARED_DATA


@pytest.fixture(scope="session")
def arm_userland() -> arm.Userland:
    """An aarch64 Python in emulation; the test is skipped where `make arm` has not been run."""
    folder = Path(__file__).parents[1] / ".arm"
    try:
        return arm.find(folder if folder.is_dir() else None)
    except EmulationMissing as error:
        pytest.skip(str(error))
