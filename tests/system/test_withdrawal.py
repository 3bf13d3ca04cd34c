"""A first release that is wrong, on a real server and a real device: it is switched off, and stays off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent_bundles import KEY, build
from agent_fleet import until
from fleet_server import Running, fleet_server
from running_device import Device, command

FLEET = [sys.executable, "-c", "from edge_fleet.cli import main; main()"]
PLAN = {"format": "edgefleet.rollout/1", "stages": ["100%"], "bake_s": 3600, "gates": {"error_rate": 0.5}}


def publish(fleet: Running, version: str) -> str:
    """A release, and a rollout of it that has begun; its id."""
    upload = {"bundles": (f"{version}.bundle", build(version=version), "application/octet-stream")}
    answer = fleet.admin.post("/api/v1/releases", files=upload)
    assert answer.status_code == 201, answer.text
    plan = {**PLAN, "release": f"tiny@{version}", "permit_downgrade": True}
    answer = fleet.admin.post("/api/v1/rollouts", json={"plan": plan, "start": True})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def runs(fleet: Running) -> Any:
    """What the device says that it runs."""
    (found,) = fleet.admin.get("/api/v1/devices").json()
    return found["active"] and found["active"]["version"]


def test_a_release_is_withdrawn_by_command_and_the_device_answers_no_more(tmp_path: Path) -> None:
    with fleet_server(tmp_path / "server") as fleet:
        key = {"public_key": KEY.public.base64, "label": "ours"}
        assert fleet.admin.post("/api/v1/publishers", json=key).status_code == 201
        device = Device(tmp_path)
        arguments = ("--server", fleet.url, "--token", fleet.token(), "--profile", "x86-cpu")
        assert command("enroll", *arguments, home=device.home).returncode == 0
        device.start()
        try:
            rollout = publish(fleet, "1")
            until(lambda: runs(fleet) == "1", "the first release answers")
            who = os.environ | {"EDGE_FLEET_TOKEN": fleet.token("operator")}
            order = ["release", "withdraw", "tiny@1", "--why", "it sees ghosts", "--server", fleet.url]
            said = subprocess.run([*FLEET, *order], capture_output=True, text=True, timeout=60, env=who)
            assert said.returncode == 0, said.stderr
            assert "tiny 1: withdrawn" in said.stdout
            until(lambda: runs(fleet) is None, "nothing answers")
            found = fleet.admin.get("/api/v1/lineage/release", params={"release": "tiny@1"}).json()
            off = found["withdrawal"]
            assert (off["devices"], off["stopped"], off["waiting"], off["why"]) == (
                1,
                1,
                [],
                "it sees ghosts",
            )
            assert fleet.admin.get(f"/api/v1/rollouts/{rollout}").json()["phase"] == "aborted"
            device.end(signal.SIGKILL)
            answered = device.answered()
            device.start()
            publish(fleet, "2")
            until(lambda: runs(fleet) == "2", "another release answers")
            until(lambda: device.answered() > answered, "it answers")
        finally:
            if device.process is not None:
                device.end(signal.SIGKILL)
