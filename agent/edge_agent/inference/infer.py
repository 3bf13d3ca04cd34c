"""`edge-agent infer`: the command line of answering one data file. The work is `oneshot.py`'s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.errors import AgentError
from edge_agent.finite import Finite

if TYPE_CHECKING:
    from edge_agent.inference.oneshot import OneShot


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    required=True,
    type=click.Path(path_type=Path),
    help="Data file (.npz): x, or one array for each input by its tensor name. A picture (.jpg .png), sound "
    "(.wav) or table (.csv .json) where the bundle says how it becomes an input.",
)
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key that must have signed the bundle (several: one of them). "
    "Without it, the keys of the enrolled device count.",
)
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the agent.")
@click.option("--output", type=click.Path(path_type=Path), help="Also write all outputs to this .npz file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="CPU threads.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Finite(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Give up after so many seconds.",
)
def infer(
    bundle: Path,
    inputs: Path,
    trust: tuple[Path, ...],
    home: Path | None,
    output: Path | None,
    as_json: bool,
    threads: int,
    timeout_s: float,
) -> None:
    """Answer a data file with a bundle: one shot, no server, no network."""
    from edge_agent.device.home import Home, default_home
    from edge_agent.inference import answers
    from edge_agent.inference.oneshot import answer_file
    from edge_agent.inference.trusting import trusted_keys

    place = Home(home) if home is not None else default_home()
    shot = answer_file(bundle, inputs, trusted_keys(trust, place), threads, timeout_s)
    if shot.signed_by is None:
        click.echo(
            "signature not checked: give --trust KEY or enrol the device (digests were checked)", err=True
        )
    if output is not None:
        _write(shot, output)
    click.echo(json.dumps(answers.as_json(shot), allow_nan=False) if as_json else answers.as_text(shot))


def _write(shot: OneShot, output: Path) -> None:
    """Write the outputs by tensor name: the whole file or none."""
    from edge_contracts.arrays import write_npz

    beside = output.with_name(output.name + ".part")
    try:
        beside.write_bytes(write_npz(shot.outputs))
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise AgentError(f"cannot write {output}: {error.strerror or error}") from None
