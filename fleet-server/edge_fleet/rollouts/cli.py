"""`edge-fleet rollout`: the commands for people and scripts; everything goes through the API."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from edge_fleet.errors import RequestInvalid
from edge_fleet.finite import Finite
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import table

FORMAT = "edgefleet.rollout/1"
_MARKS = {"pass": "PASS", "fail": "FAIL", "wait": "WAIT"}
_ENDED = ("completed", "rolled-back", "aborted")


@click.group()
def rollout() -> None:
    """A release going to devices in stages, watched by gates."""


@rollout.command("create")
@click.option("--release", metavar="NAME@VERSION", help="What to roll out.")
@click.option("--stages", metavar="LIST", help="Devices reached in all, stage by stage: 1,50%,100%.")
@click.option("--select", metavar="SELECTOR", help="all (default), or profile=arm-cpu,site=lab|yard,line!=3.")
@click.option("--bake", "bake_s", type=Finite(), metavar="SECONDS", help="How long a stage is watched.")
@click.option("--quorum", type=Finite(), metavar="SHARE", help="Of a stage that must report, 0 to 1.")
@click.option("--silence", "silence_s", type=Finite(), metavar="SECONDS", help="Until a device is silent.")
@click.option("--gate", "gates", multiple=True, metavar="NAME=LIMIT[/N]", help="N: inferences needed.")
@click.option("--permit-downgrade", is_flag=True, help="Reach devices that have confirmed a later release.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A TOML file; options go over it.")
@click.option("--start", is_flag=True, help="Start at once.")
@remote
@as_json
def create(
    release: str | None,
    stages: str | None,
    select: str | None,
    bake_s: float | None,
    quorum: float | None,
    silence_s: float | None,
    gates: tuple[str, ...],
    permit_downgrade: bool,
    plan_file: Path | None,
    start: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Make a rollout; with --start it begins at once. Without --gate the usual gates apply."""
    plan: dict[str, Any] = _read_plan(plan_file) if plan_file is not None else {"format": FORMAT}
    given: dict[str, Any] = {
        "release": release,
        "stages": [part.strip() for part in stages.split(",")] if stages else None,
        "select": select,
        "bake_s": bake_s,
        "quorum": quorum,
        "silence_s": silence_s,
        "gates": {**plan.get("gates", {}), **dict(_gate(text) for text in gates)} if gates else None,
        "permit_downgrade": permit_downgrade or None,
    }
    plan |= {name: value for name, value in given.items() if value is not None}
    for name in ("release", "stages"):
        if name not in plan:
            raise click.UsageError(f"give --{name}, or --plan with it")
    answer = connect(home_path, url, token).post(f"{API}/rollouts", {"plan": plan, "start": start})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        told = [f"{answer['id']}: {answer['release']} to {answer['select']}, {answer['phase']}"]
        click.echo("\n".join(told + _left_out(answer)))


@rollout.command("list")
@remote
@as_json
def list_rollouts(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List rollouts, newest first."""
    found = connect(home_path, url, token).get(f"{API}/rollouts")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (r["id"], r["release"], r["select"], r["phase"], _stage(r), r["reached"], r["why"] or "-")
        for r in found
    ]
    table(("rollout", "release", "for", "phase", "stage", "devices", "why"), rows)


@rollout.command("show")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--watch", is_flag=True, help="Show every change until it has ended.")
@remote
@as_json
def show(
    rollout_id: str, watch: bool, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Show stages, devices, what each gate says and why."""
    client = connect(home_path, url, token)
    found = client.get(f"{API}/rollouts/{rollout_id}")
    _print(found, as_json)
    if not watch or found["phase"] in _ENDED:
        return
    for line in client.lines(f"{API}/events"):
        if not line.startswith("data:"):
            continue
        latest = client.get(f"{API}/rollouts/{rollout_id}")
        if latest != found:
            found = latest
            _print(found, as_json)
        if found["phase"] in _ENDED:
            return


def _order(name: str, text: str) -> Callable[..., None]:
    @click.argument("rollout_id", metavar="ROLLOUT")
    @remote
    @as_json
    def command(
        rollout_id: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
    ) -> None:
        answer = connect(home_path, url, token).post(f"{API}/rollouts/{rollout_id}/{name}")
        if as_json:
            click.echo(json.dumps(answer))
        else:
            click.echo(f"{answer['id']}: {answer['phase']}")

    return rollout.command(name, help=text)(command)


_order("start", "Begin the first stage.")
_order("pause", "Begin no further stage; a failing gate still undoes the rollout.")
_order("resume", "Go on; the stage bakes anew.")
_order("abort", "Stop for good; devices keep what they have.")


@rollout.command("rollback")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--why", default="", help="Kept with the rollout.")
@remote
@as_json
def rollback(
    rollout_id: str, why: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Send every device back to what it had, also after the rollout has ended."""
    answer = connect(home_path, url, token).post(f"{API}/rollouts/{rollout_id}/rollback", {"why": why})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"{answer['id']}: {answer['phase']}")


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RequestInvalid(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"{path} is not TOML: {error}") from None


def _gate(text: str) -> tuple[str, Any]:
    """NAME=LIMIT or NAME=LIMIT/N."""
    name, _, value = text.partition("=")
    limit, _, least = value.partition("/")
    try:
        if not math.isfinite(number := float(limit)):
            raise ValueError
        return name, {"limit": number, "min_inferences": int(least)} if least else number
    except ValueError:
        raise click.UsageError(f"--gate {text!r} is not NAME=LIMIT or NAME=LIMIT/INFERENCES") from None


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo("\n".join(_lines(found)))
    sys.stdout.flush()


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{found['id']}  {found['release']} to {found['select']}  {found['phase']}, stage {_stage(found)}",
        f"  {found['why']}".rstrip(),
    ]
    for index, stage in enumerate(found["stages"]):
        lines += _stage_lines(index, stage)
    lines += _left_out(found)
    for row in found["history"]:
        at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(f"  {at}  {row['event']:9} {row['why']}".rstrip())
    return [line for line in lines if line.strip()]


def _left_out(found: Mapping[str, Any]) -> list[str]:
    return [f"  left out: {row['device']}: {row['reason']}" for row in found["skipped"]]


def _stage_lines(index: int, stage: Mapping[str, Any]) -> list[str]:
    begun = stage["begun_ms"] is not None
    target = f", {stage['target']} in all" if stage["target"] is not None else ""
    lines = [f"  stage {index + 1} ({stage['share']}{target}){'' if begun else ': not begun'}"]
    for row in stage["devices"]:
        reason = " ".join(filter(None, (row["code"], row["detail"])))
        back = f", going back: {row['back']}" if row["back"] else ""
        lines.append(
            f"    {row['device']:20} {row['profile'] or '-':16} {row['state']}{back} {reason}".rstrip()
        )
    for verdict in stage["verdicts"]:
        lines.append(f"    {_MARKS[verdict['outcome']]} {verdict['gate']}: {verdict['reason']}")
    return lines


def _stage(row: Mapping[str, Any]) -> str:
    shares: Sequence[Any] = row["stages"]
    return f"{row['stage'] + 1} of {len(shares)}"
