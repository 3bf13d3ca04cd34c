"""`edge-fleet rollout plan FILE --simulate`: a dry run on the command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_fleet.errors import RequestInvalid
from edge_fleet.remote import API, connect

if TYPE_CHECKING:
    from edge_fleet.rollouts.plan import RolloutPlan
    from edge_fleet.simulation.description import FleetDescription

_KINDS = ("errors", "uncertain", "second", "wrong", "golden", "latency", "install")


@dataclass(frozen=True)
class Asked:
    """What a dry run was asked for, as the command line says it."""

    fleet_file: Path | None
    recorded: bool
    defect: str
    sizes: tuple[float, ...]
    on: float
    runs: int
    seed: int
    plot: Path | None
    as_json: bool


def simulation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a dry run; they become the fields of `Asked`."""
    for option in (
        click.option("--plot", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw it as well."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the draws."),
        click.option("--runs", type=click.IntRange(1, 100_000), default=200, show_default=True,
                     help="Of each defect, and of a good release."),
        click.option("--on", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
                     metavar="SHARE", help="Of the devices that show the defect."),
        click.option("--size", "sizes", type=click.FloatRange(0, 100, min_open=True), multiple=True,
                     metavar="SIZE", help="Added to a share of 0 to 1; for latency, to the ratio."),
        click.option("--defect", type=click.Choice(_KINDS), default="errors", show_default=True,
                     help="What is worse."),
        click.option("--recorded", is_flag=True, help="The fleet as the server has seen it for a day."),
        click.option("--fleet", "fleet_file", type=click.Path(path_type=Path), metavar="FILE",
                     help="A fleet described in TOML."),
    ):  # fmt: skip
        command = option(command)
    return command


def simulate(
    plan: RolloutPlan, asked: Asked, home_path: Path | None, url: str | None, token: str | None
) -> None:
    """Replay a plan and print what came of it.

    Raises:
        RequestInvalid: A file that cannot be read or written, or a fleet that the plan names nothing of.
        FormatInvalid: A description with a fault.
    """
    from edge_fleet.simulation.defects import Kind
    from edge_fleet.simulation.plot import svg
    from edge_fleet.simulation.progress import progress
    from edge_fleet.simulation.report import as_dict, lines
    from edge_fleet.simulation.study import CannotReplay, study

    fleet = _fleet(plan, asked, home_path, url, token)
    kind = Kind(asked.defect)
    try:
        with progress("runs") as tell:
            found = study(plan, fleet, kind, asked.sizes, asked.on, asked.runs, asked.seed, tell=tell)
    except CannotReplay as error:
        raise RequestInvalid(str(error)) from None
    if asked.plot is not None:
        try:
            asked.plot.write_text(svg(found, f"{plan.release} in stages {_stages(plan)}"), "utf-8")
        except OSError as error:
            raise RequestInvalid(f"cannot write {asked.plot}: {error.strerror}") from None
    if asked.as_json:
        click.echo(json.dumps(as_dict(found) | {"fleet": fleet.model_dump(mode="json")}))
    else:
        click.echo("\n".join([f"{plan.release} in stages {_stages(plan)}", *lines(found)]))


def _stages(plan: RolloutPlan) -> str:
    return ", ".join(str(stage) for stage in plan.stages)


def _fleet(
    plan: RolloutPlan, asked: Asked, home_path: Path | None, url: str | None, token: str | None
) -> FleetDescription:
    from edge_fleet.simulation.description import parse_fleet

    if (asked.fleet_file is None) != asked.recorded:
        raise click.UsageError("give --fleet FILE or --recorded: a plan is replayed against a fleet")
    if asked.fleet_file is None:
        whole = {"plan": plan.model_dump(mode="json")}
        answer = connect(home_path, url, token).post(f"{API}/fleet/description", whole)
        return parse_fleet(answer, "the server's description of its fleet")
    try:
        raw = tomllib.loads(asked.fleet_file.read_text("utf-8"))
    except OSError as error:
        raise RequestInvalid(f"cannot read {asked.fleet_file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RequestInvalid(f"{asked.fleet_file} is not TOML: {error}") from None
    return parse_fleet(raw, str(asked.fleet_file))
