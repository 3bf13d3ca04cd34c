"""Each cause of a failed attempt takes from its own budget: a real device, a real server, real failures."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_bundles import KEY, build, reference
from agent_fleet import until
from fleet_server import Running, fleet_server
from running_device import Device, command

from edge_contracts.digest import digest_of
from edge_fleet.registry import archive_path

WRONG = np.roll(reference(np.zeros((16, 4), np.float32)), 1, axis=1)
BUDGETS = {"shed": 2, "network": 1, "verification": 1, "golden": 1, "crash": 1, "backoff_s": 0}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With one device that runs."""
    folder = tmp_path_factory.mktemp("retries")
    with fleet_server(folder / "server") as running:
        key = {"public_key": KEY.public.base64, "label": "ours"}
        assert running.admin.post("/api/v1/publishers", json=key).status_code == 201
        device = Device(folder)
        arguments = ("--server", running.url, "--token", running.token(), "--profile", "x86-cpu")
        assert command("enroll", *arguments, home=device.home).returncode == 0
        device.start()
        try:
            yield running
        finally:
            device.end(signal.SIGKILL)


def damage(path: Path) -> None:
    """Another last byte: as long, and not what was signed."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def nothing(path: Path) -> None:
    """The release is as it was made."""


CASES: list[tuple[str, str, dict[str, Any], Callable[[Path], None], str]] = [
    ("1", "golden", {"expected": WRONG}, nothing, "golden-mismatch"),
    ("2", "golden", {"latency_p95_ms": 0.0001}, nothing, "too-slow"),
    ("3", "verification", {}, damage, "digest-mismatch"),
    ("4", "network", {}, Path.unlink, "server-refused"),
]


@pytest.mark.parametrize(("version", "cause", "made", "spoil", "code"), CASES)
def test_a_failure_takes_from_the_budget_of_its_cause_alone(
    fleet: Running, version: str, cause: str, made: dict[str, Any], spoil: Callable[[Path], None], code: str
) -> None:
    archive = build(version=version, **made)
    upload = {"bundles": (f"{version}.bundle", archive, "application/octet-stream")}
    assert fleet.admin.post("/api/v1/releases", files=upload).status_code == 201
    spoil(archive_path(fleet.server.home.archives, digest_of(archive)))
    plan: dict[str, Any] = {"format": "edgefleet.rollout/1", "release": f"tiny@{version}", "stages": ["100%"]}
    plan |= {"retries": BUDGETS, "gates": {"error_rate": 0.5}}
    answer = fleet.admin.post("/api/v1/rollouts", json={"plan": plan, "start": True})
    assert answer.status_code == 201, answer.text
    rollout = f"/api/v1/rollouts/{answer.json()['id']}"

    def ended() -> Any:
        (row,) = fleet.admin.get(rollout).json()["stages"][0]["devices"] or [None]
        return row if row and row["retries"] and row["state"] == "refused" else None

    row = until(ended, "it was tried again, and failed again")
    assert (row["code"], row["retries"]) == (code, {cause: 1})
    fleet.admin.post(f"{rollout}/abort").raise_for_status()
