"""`edge-fleet rollout`: the commands for people and scripts; everything goes through the API."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_fleet.finite import Finite
from edge_fleet.patience import news, patiently
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import table

if TYPE_CHECKING:
    from edge_fleet.client import Client

_MARKS = {"pass": "PASS", "fail": "FAIL", "wait": "WAIT"}
_VERDICTS = tuple(f"    {mark} " for mark in _MARKS.values())
FEW = 50  # devices that are shown to a person
MOST = 10_000  # devices that the server tells at once
_ENDED = ("completed", "rolled-back", "stopped", "aborted")


@click.group()
def rollout() -> None:
    """A release going to devices in stages, watched by gates."""


@rollout.command("create")
@click.option("--release", metavar="NAME@VERSION", help="What to roll out.")
@click.option(
    "--stages", metavar="LIST", help="Devices reached in all, stage by stage: ring=canary,1,50%,100%."
)
@click.option("--select", metavar="SELECTOR", help="all (default), or profile=arm-cpu,site=lab|yard,line!=3.")
@click.option("--bake", "bake_s", type=Finite(), metavar="SECONDS", help="How long a stage is watched.")
@click.option("--quorum", type=Finite(), metavar="SHARE", help="Of a stage that must report, 0 to 1.")
@click.option("--silence", "silence_s", type=Finite(), metavar="SECONDS", help="Until a device is silent.")
@click.option("--gate", "gates", multiple=True, metavar="NAME=LIMIT[/N]", help="N: inferences needed.")
@click.option("--rate", type=int, metavar="N", help="Devices begun a minute.")
@click.option("--max-in-flight", type=int, metavar="N", help="Devices on their way at once.")
@click.option("--priority", type=int, metavar="N", help="Over other rollouts that name the same devices.")
@click.option("--on-failure", metavar="WHAT", help="rollback-rollout (default), rollback-stage or hold.")
@click.option("--permit-downgrade", is_flag=True, help="Reach devices that have confirmed a later release.")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    help="A file, YAML or TOML (`edge-fleet rollout plan --new`); options go over it.",
)
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
    rate: int | None,
    max_in_flight: int | None,
    priority: int | None,
    on_failure: str | None,
    permit_downgrade: bool,
    plan_file: Path | None,
    start: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Make a rollout; with --start it begins at once. Without --gate the usual gates apply."""
    from edge_fleet.rollouts.plan import FORMAT, parse_plan
    from edge_fleet.rollouts.plan_file import PlanDocument, read_plan_file

    document = (
        PlanDocument({"format": FORMAT}, {}, "plan") if plan_file is None else read_plan_file(plan_file)
    )
    plan: dict[str, Any] = document.raw
    given: dict[str, Any] = {
        "release": release,
        "stages": [part.strip() for part in stages.split(",")] if stages else None,
        "select": select,
        "bake_s": bake_s,
        "quorum": quorum,
        "silence_s": silence_s,
        "gates": {**plan.get("gates", {}), **dict(_gate(text) for text in gates)} if gates else None,
        "rate": rate,
        "max_in_flight": max_in_flight,
        "priority": priority,
        "on_failure": on_failure,
        "permit_downgrade": permit_downgrade or None,
    }
    plan |= {name: value for name, value in given.items() if value is not None}
    if plan_file is None:
        for name in ("release", "stages"):
            if name not in plan:
                raise click.UsageError(f"give --{name}, or --plan with it")
    else:  # here the lines are known; the server checks again
        parse_plan(plan, document.what, document.lines)
    answer = connect(home_path, url, token).post(f"{API}/rollouts", {"plan": plan, "start": start})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        told = [f"{answer['id']}: {answer['release']} to {answer['select']}, {answer['phase']}"]
        click.echo("\n".join(told + _nobody(answer) + _left_out(answer)))


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
@click.option("--watch", is_flag=True, help="And then what changes, until it has ended.")
@click.option(
    "--limit",
    type=click.IntRange(0, 10_000),
    metavar="N",
    help="Devices that are shown, 50 unless told; with --json all of them.",
)
@click.option("--page", type=click.IntRange(1), default=1, metavar="N", help="So many devices further on.")
@remote
@as_json
def show(
    rollout_id: str,
    watch: bool,
    limit: int | None,
    page: int,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Show stages, devices, what each gate says and why."""
    client = connect(home_path, url, token)

    def get() -> dict[str, Any]:
        return _shown(
            client, rollout_id, FEW if limit is None and not (as_json and page == 1) else limit, page
        )

    found = get()
    _print(found, as_json)
    if not watch or found["phase"] in _ENDED:
        return
    for _ in news(client):
        latest = patiently(get)
        if latest != found:
            if as_json:
                _print(latest, as_json)
            else:
                _print_lines(_changed(_lines(found), _lines(latest)))
            found = latest
        if found["phase"] in _ENDED:
            return


def _shown(client: Client, rollout_id: str, limit: int | None, page: int) -> dict[str, Any]:
    """A rollout with so many devices of a page; all of them without a limit."""
    path = f"{API}/rollouts/{rollout_id}"
    found: dict[str, Any] = client.get(path, limit=str(MOST if limit is None else limit))
    if limit is None:
        while found["next"] is not None:
            further = client.get(f"{path}/devices", limit=str(MOST), after=found["next"])
            found["next"] = further["next"]
            for one in further["devices"]:
                found["stages"][one.pop("stage")]["devices"].append(one)
        return found
    first = 1
    if page > 1 and limit:
        further = client.get(f"{path}/devices", limit=str(limit), page=str(page))
        found["next"] = further["next"]
        first += (page - 1) * limit
        for stage in found["stages"]:
            stage["devices"] = [one for one in further["devices"] if one["stage"] == stage["number"] - 1]
    return {**found, "first": first, "page": page}


def _as_seen(client: Client, path: str) -> str:
    """Where a rollout stands, for an order that is refused when it stands elsewhere by then."""
    from edge_fleet.rollouts.seen import Seen

    return f"?seen={Seen.told(client.get(path, limit='0'))}"


def _order(name: str, text: str) -> Callable[..., None]:
    @click.argument("rollout_id", metavar="ROLLOUT")
    @remote
    @as_json
    def command(
        rollout_id: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
    ) -> None:
        client = connect(home_path, url, token)
        path = f"{API}/rollouts/{rollout_id}"
        # two who advance a rollout at once mean the same stage, and not the one after it, too
        answer = client.post(f"{path}/{name}" + (_as_seen(client, path) if name == "advance" else ""))
        if as_json:
            click.echo(json.dumps(answer))
        else:
            click.echo(f"{answer['id']}: {answer['phase']}")

    return rollout.command(name, help=text)(command)


_order("start", "Begin the first stage, or wait for the plan's start_at.")
_order("pause", "Begin no further device; a failing gate still counts.")
_order("resume", "Go on; the stage bakes anew.")
_order(
    "advance",
    "Wait no longer: begin now, or take the stage, or its first part, as passed. Never past a failed gate.",
)


def _order_with_reason(name: str, text: str) -> Callable[..., None]:
    @click.argument("rollout_id", metavar="ROLLOUT")
    @click.option("--why", default="", help="Kept with the rollout.")
    @remote
    @as_json
    def command(
        rollout_id: str, why: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
    ) -> None:
        answer = connect(home_path, url, token).post(f"{API}/rollouts/{rollout_id}/{name}", {"why": why})
        if as_json:
            click.echo(json.dumps(answer))
        else:
            click.echo(f"{answer['id']}: {answer['phase']}")

    return rollout.command(name, help=text)(command)


_order_with_reason("abort", "Stop for good; devices keep what they have.")
_order_with_reason("rollback", "Send every device back to what it had, also after the rollout has ended.")


@rollout.command("device")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.argument("device")
@click.argument("order", type=click.Choice(["skip", "retry", "rollback"]))
@click.option("--why", default="", help="Kept with the device.")
@remote
@as_json
def device(
    rollout_id: str,
    device: str,
    order: str,
    why: str,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Leave one DEVICE out (skip), try it again whatever its budgets say, or send it back."""
    path = f"{API}/rollouts/{rollout_id}/devices/{device}/{order}"
    answer = connect(home_path, url, token).post(path, {"why": why})
    if as_json:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"{answer['id']}: {device}: {order}")


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
        sys.stdout.flush()
    else:
        _print_lines(_lines(found))


def _print_lines(lines: Sequence[str]) -> None:
    if lines:
        click.echo("\n".join(lines))
        sys.stdout.flush()


def _changed(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The lines that say something new; of what a gate says its word: figures change with each window."""
    known = {_word(line) for line in before}
    return [line for line in after if _word(line) not in known]


def _word(line: str) -> str:
    return line.partition(":")[0] if line.startswith(_VERDICTS) else line


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{found['id']}  {found['release']} to {found['select']}  {found['phase']}, stage {_stage(found)}",
        f"  {found['why']}".rstrip(),
    ]
    if (silent := found["silent"])["count"]:
        more = ", ..." if silent["count"] > len(silent["few"]) else ""
        quiet = f"{silent['count']} of those on their way silent: {', '.join(silent['few'])}{more}"
        lines.append(f"  {quiet}; waited for until silence_s, {found['plan']['silence_s']:g} s")
    if found["safety"] is not None:
        from edge_fleet.rollouts.rehearse_cli import safety_line

        lines.append(f"  {safety_line(found['safety'])}")
    for index, stage in enumerate(found["stages"]):
        lines += _stage_lines(index, stage)
    if found.get("next"):
        told = sum(len(stage["devices"]) for stage in found["stages"])
        shown = f"devices {found['first']:,} to {found['first'] + told - 1:,}" if told else "no device"
        lines.append(f"  {shown} of {found['reached']:,} shown; --page {found['page'] + 1} shows the next")
    for what, count in _waits(found).items():
        lines.append(f"  {count} devices wait for {what}")
    lines += _left_out(found)
    for row in found["history"]:
        at = datetime.fromtimestamp(row["at_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        where = f"[stage {row['stage'] + 1}, {row['part']}] " if row["part"] else ""
        lines.append(f"  {at}  {row['event']:9} {where}{row['why']}".rstrip())
    return [line for line in lines if line.strip()]


def _waits(found: Mapping[str, Any]) -> Counter[str]:
    """How many devices wait for what."""
    return Counter({row["for"]: row["devices"] for row in found["waits_for"]})


def _nobody(found: Mapping[str, Any]) -> list[str]:
    """Stages at which nobody would have been reached."""
    return [
        f"  stage {stage['number']} ({stage['share']}) names no device now: the rollout waits there for one"
        for stage in found["stages"]
        if stage["target"] == 0
    ]


def _left_out(found: Mapping[str, Any]) -> list[str]:
    """Those that are told by name, then how many there are for each reason that has more."""
    lines = [f"  left out: {row['device']}: {row['reason']}" for row in found["skipped"]]
    named = Counter(row["reason"] for row in found["skipped"])
    for row in found["left_out"]:
        if more := row["devices"] - named[row["why"]]:
            lines.append(f"  left out: {more:,}{' more' if named[row['why']] else ''}: {row['why']}")
    return lines


def _stage_lines(index: int, stage: Mapping[str, Any]) -> list[str]:
    begun = stage["begun_ms"] is not None
    target = f", {stage['target']} in all" if stage["target"] is not None else ""
    lines = [f"  stage {index + 1} ({stage['share']}{target}){'' if begun else ': not begun'}"]
    if stage["part"]:
        lines.append(f"    {stage['part']['text']}")
    for row in stage["devices"]:
        of_it = ("back_code", "back_detail") if row["back"] else ("code", "detail")
        reason = " ".join(row[name] for name in of_it if row[name])
        back = f", going back: {row['back']}" if row["back"] else ""
        back += f", {row['left']}" if row["left"] else ""
        tried = ", ".join(f"{n} for {cause}" for cause, n in row["retries"].items())
        back += f", tried again: {tried}" if tried else ""
        lines.append(
            f"    {row['device']:20} {row['profile'] or '-':16} {row['state']}{back} {reason}".rstrip()
        )
    for verdict in stage["verdicts"]:
        lines.append(f"    {_MARKS[verdict['outcome']]} {verdict['gate']}: {verdict['reason']}")
    return lines


def _stage(row: Mapping[str, Any]) -> str:
    shares: Sequence[Any] = row["stages"]
    parts = {"shadow": " (part 1 of 2: run as a shadow)", "ready": " (part 1 of 2: staged and held)"}
    part = parts.get(row["part"], "") if row["phase"] not in _ENDED else ""
    return f"{row['stage'] + 1} of {len(shares)}{part}"
