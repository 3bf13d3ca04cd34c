"""`edge-fleet rollout rehearse`: a game day. Devices install a release and are taken back from it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge_fleet.errors import RequestInvalid
from edge_fleet.finite import Finite
from edge_fleet.patience import patiently
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import table

POLL_S = 0.5
EVERYBODY = "10000"  # devices that the server tells at once
SLOWEST = 10
_ENDED = ("rolled-back", "stopped", "completed", "aborted")


@click.command("rehearse")
@click.option("--release", required=True, metavar="NAME@VERSION", help="What the devices install meanwhile.")
@click.option(
    "--select", required=True, metavar="SELECTOR", help="Which devices: device=cam-1|cam-2, site=lab."
)
@click.option(
    "--kind",
    type=click.Choice(["staged", "shadow-first", "blue-green"]),
    default="staged",
    help="How they come to it: by itself [staged], as a shadow first, or brought and switched at once.",
)
@click.option("--permit-downgrade", is_flag=True, help="The release may be older than what they run.")
@click.option("--silence", "silence_s", type=Finite(), metavar="SECONDS", help="Until a device is silent.")
@click.option("--wait", "wait_s", type=Finite(), default=3600.0, metavar="SECONDS", help="At most [3600].")
@remote
@as_json
def rehearse(
    release: str,
    select: str,
    kind: str,
    permit_downgrade: bool,
    silence_s: float | None,
    wait_s: float,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Rehearse a rollback on chosen devices and report the time to safe.

    The devices install the release as in any rollout. When they have settled, the conductor does as if a gate
    had failed: each gets the signed order to go back to what it ran. Measured is from that order to each
    device's word that it is back.

    Exit code 0: all are back. 1: a device is not, or nobody went back; --json says the same and ends so too.
    """
    client = connect(home_path, url, token)
    plan: dict[str, Any] = {
        "format": "edgefleet.rollout/1",
        "release": release,
        "select": select,
        "kind": "rehearsal",
        "permit_downgrade": permit_downgrade,
        **({"shadow": {"bake_s": 0}} if kind == "shadow-first" else {}),
        **({"blue_green": {}} if kind == "blue-green" else {}),
        **({} if silence_s is None else {"silence_s": silence_s}),
    }
    rollout = client.post(f"{API}/rollouts", {"plan": plan, "start": True})["id"]
    deadline, told = time.monotonic() + wait_s, ""

    def ask() -> dict[str, Any]:
        found: dict[str, Any] = client.get(f"{API}/rollouts/{rollout}", limit="0")
        return found

    while (found := patiently(ask, deadline))["phase"] not in _ENDED:
        if (line := f"{rollout}: {found['phase']}, {found['why'] or 'begins'}") != told:
            click.echo(line, err=True)  # silent devices hold it up for minutes: say so
            told = line
        if time.monotonic() > deadline:
            raise RequestInvalid(
                f"rehearsal {rollout} is still {found['phase']} after {wait_s:g} s: {found['why']}; "
                f"it goes on, see: edge-fleet rollout show {rollout}"
            )
        time.sleep(POLL_S)
    found = client.get(f"{API}/rollouts/{rollout}", limit=EVERYBODY)
    safety = found["safety"]
    if as_json:
        fields = {name: found[name] for name in ("phase", "why", "safety")}
        click.echo(json.dumps({"rollout": rollout, **fields}))
    if safety is None:
        raise RequestInvalid(f"rehearsal {rollout} is {found['phase']}, nobody went back: {found['why']}")
    if not as_json:
        click.echo(f"{rollout}: {found['why']}")
        click.echo(safety_line(safety))
        slowest = sorted(safety["devices"].items(), key=lambda item: -item[1])[:SLOWEST]
        table(("slowest", "seconds"), [(device, f"{seconds:.2f}") for device, seconds in slowest])
    if safety["not_back"]:
        raise RequestInvalid(f"{len(safety['not_back'])} devices are not back: {found['why']}")


def safety_line(safety: Mapping[str, Any]) -> str:
    """The way back in one line."""
    total = safety["back"] + safety.get("not_back_devices", len(safety["not_back"]))
    told = f"time to safe: {safety['back']} of {total} devices are back"
    if safety["back"]:
        told += f", half in {safety['median_s']:.1f} s, 95 % in {safety['p95_s']:.1f} s"
        told += f", the last in {safety['last_s']:.1f} s"
    missing = ", ".join(f"{device} ({state})" for device, state in list(safety["not_back"].items())[:5])
    return told + (f"; not: {missing}" if missing else "")
