"""`edge-agent infer`: the command line of answering one data file. The work is `oneshot.py`'s."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.errors import AgentError
from edge_agent.finite import Finite

if TYPE_CHECKING:
    from edge_agent.batch.run import Batch
    from edge_agent.inference.oneshot import OneShot


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    required=True,
    type=click.Path(path_type=Path),
    help="Data file (.npz): x, or one array for each input by its tensor name. A picture (.jpg .png), sound "
    "(.wav) or table (.csv .json) where the bundle says how it becomes an input; a folder of them or a "
    ".parquet file with --output X.parquet.",
)
@click.option(
    "--trust",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Public key that must have signed the bundle (several: one of them). "
    "Without it, the keys of the enrolled device count.",
)
@click.option("--home", type=click.Path(path_type=Path), help="Folder of the agent.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Also write all outputs to this .npz file. A .parquet file gets a row for each input instead: of a "
    "folder, a .parquet or an .npz file, however large; a run that was stopped goes on where it was.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes (.parquet)."
)
@click.option(
    "--part-rows",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Rows of a part (.parquet): so many of each process are lost by a kill.",
)
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
    jobs: int,
    part_rows: int,
    as_json: bool,
    threads: int,
    timeout_s: float,
) -> None:
    """Answer a data file with a bundle: one shot, no server, no network."""
    from edge_agent.device.address_space import require_address_space

    require_address_space()
    from edge_agent.device.home import Home, default_home
    from edge_agent.inference import answers
    from edge_agent.inference.oneshot import answer_file
    from edge_agent.inference.trusting import trusted_keys

    place = Home(home) if home is not None else default_home()
    trusted = trusted_keys(trust, place)
    if output is not None and output.suffix == ".parquet":
        from edge_agent.batch.run import Batch

        _batch(Batch(bundle, inputs, output, trusted, jobs, threads, part_rows), as_json)
        return
    if inputs.is_dir() or inputs.suffix == ".parquet":
        raise click.UsageError(f"{inputs} may hold many inputs: give --output X.parquet for their answers")
    shot = answer_file(bundle, inputs, trusted, threads, timeout_s)
    _own_up(shot.signed_by)
    if output is not None:
        _write(shot, output)
    click.echo(json.dumps(answers.as_json(shot), allow_nan=False) if as_json else answers.as_text(shot))


def _own_up(signed_by: str | None) -> None:
    if signed_by is None:
        click.echo(
            "signature not checked: give --trust KEY or enrol the device (digests were checked)", err=True
        )


def _batch(batch: Batch, as_json: bool) -> None:
    """Answer many inputs, with a bar for a person at a terminal."""
    from edge_agent.batch.run import run_batch

    with ExitStack() as shown:

        def begin(rows: int, resumed: int) -> Callable[[int], None]:
            bar: Any = shown.enter_context(
                click.progressbar(length=rows, label=f"answering {rows} rows", file=sys.stderr, show_pos=True)
            )
            bar.update(resumed)
            return lambda count: bar.update(count)

        done = run_batch(batch, begin)
    _own_up(done.signed_by)
    told = {
        "rows": done.rows,
        "resumed": done.resumed,
        "refused": sum(done.refused.values()),
        "reasons": dict(done.refused),
        "artifact": done.choice.option.artifact,
        "fallback": done.choice.fallback,
        "output": str(batch.output),
    }
    text = f"{done.rows} rows in {batch.output}: {done.choice.option}"
    if done.resumed:
        text += f"; {done.resumed} of them from an earlier run"
    if done.refused:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in done.refused.items())
        text += f"; {sum(done.refused.values())} refused ({reasons}), see the column detail"
    click.echo(json.dumps(told) if as_json else text)
    if done.rows and sum(done.refused.values()) == done.rows:
        raise AgentError(f"no row of {batch.inputs} could be answered; {batch.output} says why of each")


def _write(shot: OneShot, output: Path) -> None:
    """Write the outputs by tensor name: the whole file or none."""
    from edge_contracts.arrays import write_npz

    beside = output.with_name(output.name + ".part")
    try:
        beside.write_bytes(write_npz(shot.outputs))
        beside.replace(output)
    except OSError as error:
        with suppress(OSError):  # a disk that is read-only
            beside.unlink(missing_ok=True)
        raise AgentError(f"cannot write {output}: {error.strerror or error}") from None
