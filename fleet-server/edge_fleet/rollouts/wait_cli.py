"""`edge-fleet rollout wait`: for scripts and pipelines that go on only when a release has arrived."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from edge_fleet.errors import RolloutNotDone
from edge_fleet.finite import Finite
from edge_fleet.patience import patiently
from edge_fleet.remote import API, as_json, connect, remote

POLL_S = 1.0
_WELL = ("completed",)
_ENDED = (*_WELL, "rolled-back", "stopped", "aborted")
# a gate failed, or somebody stopped it, since the stage passed: a pipeline must not take that for well
_FAILED = (*_ENDED, "rolling-back", "returning-stage", "held")


@click.command("wait")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option(
    "--stage", type=click.IntRange(min=1), metavar="N", help="Until stage N has passed, and all is well."
)
@click.option("--timeout", "wait_s", type=Finite(min=0), default=3600.0, metavar="SECONDS", help="[3600]")
@remote
@as_json
def wait(
    rollout_id: str,
    stage: int | None,
    wait_s: float,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Wait until a rollout has completed; exit code 1 when it ends otherwise, or not in time.

    A server that is away meanwhile is waited for.
    """
    client = connect(home_path, url, token)
    deadline = time.monotonic() + wait_s

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"{API}/rollouts/{rollout_id}", limit="0")
        return found

    found = ask()
    while True:
        passed = found["phase"] in _WELL or (
            stage is not None and found["phase"] not in _FAILED and found["stage"] >= stage
        )
        if passed or found["phase"] in _ENDED or time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
        found = patiently(ask, deadline)
    if as_json:
        click.echo(json.dumps({name: found[name] for name in ("id", "phase", "stage", "why")}))
    told = f"{found['id']} is {found['phase']}, stage {found['stage'] + 1} of {len(found['stages'])}"
    told = f"{told}: {found['why']}".rstrip(": ")
    if not passed:
        late = "" if found["phase"] in _ENDED else f" after {wait_s:g} s, and goes on"
        raise RolloutNotDone(f"rollout {told}{late}")
    if not as_json:
        click.echo(told)
