"""`edge-agent lineup`, `review` and `feedback`: the command line of doubt. The work is the other modules'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.device.home import Home, default_home
from edge_agent.errors import HomeLocked
from edge_agent.finite import Finite

if TYPE_CHECKING:
    from edge_agent.doubt.settings import LineupSettings, ReviewSettings

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_BUNDLE = click.Path(path_type=Path)


@click.command()
@click.argument("request")
@click.argument("label")
@_HOME
def feedback(request: str, label: str, home: Path | None) -> None:
    """Say what the right answer to a REQUEST was: LABEL is the class by its name or number.

    The request is what its client called it (its id; of a folder's input, the "input" of --answers). The
    label counts as live accuracy in the windows of the model that answered, and is noted with the input
    where that is kept for review.
    """
    from edge_agent.doubt import settings
    from edge_agent.doubt.labelling import label_kept
    from edge_agent.doubt.reviewer import Reviewer
    from edge_agent.updates import orders

    place = _place(home)
    try:
        with place.locked():
            reviewer = Reviewer.of(place, settings.read_review(place))
            said = str(label_kept(reviewer, request, label))
    except HomeLocked:
        said = orders.give(place, "feedback", request=request, label=label)
    click.echo(said)


@click.group()
def lineup() -> None:
    """Models beside the active one: a second for what it is unsure of, an A/B arm, a shadow.

    What is set here holds over restarts; a running agent takes it up within a second or two.
    """


@lineup.command("set")
@click.option(
    "--second",
    metavar="BUNDLE|last-good",
    help="Asked when the active model is unsure or fails: a bundle file, or last-good for the bundle that "
    "was active before, whichever that is at the time.",
)
@click.option(
    "--ab",
    metavar="BUNDLE:SHARE",
    help="The other arm of an experiment, and its share of the requests: candidate.bundle:0.2.",
)
@click.option(
    "--experiment",
    metavar="NAME",
    help="Name of the experiment; it salts the hash that divides the requests [default: the bundle's name].",
)
@click.option(
    "--shadow", type=_BUNDLE, help="A candidate that sees a share of the inputs; nobody sees its answers."
)
@click.option("--shadow-share", type=Finite(min=0, max=1), help="Share of the inputs [default: 0.1].")
@click.option(
    "--shadow-cpu", type=Finite(min=0, min_open=True, max=1), help="Share of one core [default: 0.1]."
)
@click.option(
    "--shadow-memory", type=click.IntRange(min=1), metavar="MB", help="Of its process [default: 256]."
)
@click.option(
    "--shadow-latency",
    type=Finite(min=0, min_open=True),
    metavar="MS",
    help="A shadow that needs longer for one input is stopped [default: 2000].",
)
@_HOME
@_JSON
def set_lineup(home: Path | None, as_json: bool, **options: Any) -> None:
    """Put bundles beside the active one, each verified and tried like an update; others stay."""
    from edge_agent.doubt.arranging import Wishes, arrange

    place = _place(home)
    _show(arrange(place, Wishes.of(**options)), as_json)


@lineup.command("clear")
@click.option("--second", "which", flag_value="second", help="Only the second model.")
@click.option("--ab", "which", flag_value="experiment", help="Only the experiment.")
@click.option("--shadow", "which", flag_value="shadow", help="Only the shadow.")
@_HOME
@_JSON
def clear_lineup(which: str | None, home: Path | None, as_json: bool) -> None:
    """Take them away again: all, or the one that is named."""
    from edge_agent.doubt.arranging import take_away

    _show(take_away(_place(home), which), as_json)


@lineup.command("show")
@_HOME
@_JSON
def show_lineup(home: Path | None, as_json: bool) -> None:
    """Who stands beside the active model; a shadow that the server has assigned, too."""
    from edge_agent.doubt import settings

    place = _place(home)
    found, ordered = settings.read_lineup(place), settings.read_ordered(place)
    if as_json:
        assigned = None if ordered is None else ordered.model_dump(mode="json")
        click.echo(json.dumps({**found.model_dump(mode="json"), "assigned": assigned}))
    elif ordered is not None:
        click.echo("\n".join(settings.described_in(place)))
    else:
        _show(found, as_json)


@click.group()
def review() -> None:
    """Inputs kept for review: encrypted, bounded, and never sent unless that is allowed here."""


@review.command("list")
@_HOME
@_JSON
def list_kept(home: Path | None, as_json: bool) -> None:
    """What is kept, oldest first."""
    from edge_agent.doubt.reviewing import listed, listed_as_text

    entries = listed(_place(home))
    click.echo(json.dumps(entries) if as_json else listed_as_text(entries))


@review.command("show")
@click.argument("number", type=click.IntRange(min=0))
@_HOME
@_JSON
def show_kept(number: int, home: Path | None, as_json: bool) -> None:
    """One input: what is known of it, and its values in short."""
    from edge_agent.doubt.reviewing import shown, shown_as_text

    found = shown(_place(home), number)
    click.echo(json.dumps(found) if as_json else shown_as_text(found))


@review.command()
@click.option(
    "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File (.npz) to write."
)
@click.option(
    "--labelled", is_flag=True, help="Only inputs whose right class is known: x and y for training."
)
@click.option(
    "--bundle", metavar="DIGEST", help="Only inputs that this bundle answered (its first digits will do)."
)
@_HOME
def export(output: Path, labelled: bool, bundle: str | None, home: Path | None) -> None:
    """Write kept inputs to a file, in clear: `x` (or by tensor name), `answer`, `confidence`, `y`.

    y is -1 where nobody has said the right class. With --labelled the file is one for edge-convert build
    --evaluation, or for training.
    """
    from edge_agent.doubt.reviewing import export_to

    click.echo(export_to(_place(home), output, labelled, bundle))


@review.command()
@click.confirmation_option(prompt="Forget every input that is kept for review, and the key?")
@_HOME
def clear(home: Path | None) -> None:
    """Forget everything that is kept: the key first, so that no copy of the disk can be read either."""
    from edge_agent.doubt.reviewer import ring_of
    from edge_agent.doubt.shelf import Shelf

    place = _place(home)
    forgotten = ring_of(place).clear()  # the key first: then the rest is noise
    Shelf(place).clear()
    click.echo(f"{forgotten} inputs forgotten, and the answers that waited for labels")


@review.command("set")
@click.option(
    "--keep/--no-keep", default=None, help="Whether uncertain inputs are kept at all [default: they are]."
)
@click.option("--max-mb", type=Finite(min=0), metavar="MB", help="Bytes of the ring [default: 32].")
@click.option("--max-count", type=click.IntRange(0, 100_000), help="Inputs in the ring [default: 500].")
@click.option(
    "--per-minute",
    type=click.IntRange(0, 600),
    help="At most so many are kept a minute, for the flash's sake [default: 6].",
)
@click.option(
    "--upload-to",
    metavar="URL",
    help="ALLOW kept inputs to be sent to this https address. Raw inputs leave the device then.",
)
@click.option(
    "--upload-ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="PEM of the CA of that address [default: the fleet server's is known].",
)
@click.option("--no-upload", is_flag=True, help="Nothing leaves the device (the default).")
@click.option("--mb-per-day", type=Finite(min=0), metavar="MB", help="Data budget of uploads [default: 1].")
@_HOME
@_JSON
def set_review(
    home: Path | None,
    as_json: bool,
    max_mb: float | None,
    mb_per_day: float | None,
    upload_to: str | None,
    upload_ca: Path | None,
    no_upload: bool,
    **options: Any,
) -> None:
    """Say what is kept, and whether any of it may leave; shows the settings."""
    from edge_agent.doubt.arranging import settle_review

    if no_upload and upload_to:
        raise click.UsageError("--no-upload does not go with --upload-to")
    changes: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if max_mb is not None:
        changes["max_bytes"] = int(max_mb * (1 << 20))
    if mb_per_day is not None:
        changes["bytes_per_day"] = int(mb_per_day * (1 << 20))
    if upload_to is not None:
        changes["upload_to"] = upload_to
    if upload_ca is not None:
        changes["upload_ca"] = upload_ca.read_text()
    if no_upload:
        changes |= {"upload_to": "", "upload_ca": ""}
    _show(settle_review(_place(home), changes), as_json)


def _show(settings: LineupSettings | ReviewSettings, as_json: bool) -> None:
    from edge_agent.doubt.arranging import as_text

    click.echo(settings.model_dump_json() if as_json else as_text(settings))


def _place(home: Path | None) -> Home:
    place = Home(home) if home is not None else default_home()
    place.require_ours()
    return place
