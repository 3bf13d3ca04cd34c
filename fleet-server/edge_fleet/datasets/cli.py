"""`edge-fleet dataset`: inputs that devices kept for review, labelled, and exported for training."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import click

from edge_contracts.digest import short
from edge_fleet.errors import RequestInvalid
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

PATH = f"{API}/datasets"
_of = click.option("--of", "what", metavar="DIGEST|RELEASE", help="Of these bundles only.")


@click.group()
def dataset() -> None:
    """Inputs that devices kept for review: label them, export them with their lineage."""


@dataset.command("list")
@_of
@click.option("--labelled/--unlabelled", default=None, help="With, or without a label.")
@remote
@as_json
def list_samples(
    what: str | None,
    labelled: bool | None,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """List kept inputs, newest first."""
    query = {k: v for k, v in {"what": what, "labelled": labelled}.items() if v is not None}
    found = connect(home_path, url, token).get(f"{PATH}/samples", **query)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            s["id"],
            s["device"],
            short(s["bundle"]),
            s["reason"],
            "-" if s["answer"] is None else s["answer_name"] or s["answer"],
            "-" if s["label"] is None else s["label_name"] or s["label"],
            s["labelled_by"],
            ago(s["received_ms"]),
        )
        for s in found
    ]
    table(("id", "device", "bundle", "reason", "answer", "label", "said by", "received"), rows)


@dataset.command("label")
@click.argument("number", type=int)
@click.argument("right")
@remote
def label(number: int, right: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Say which class is right, by its name or number."""
    connect(home_path, url, token).post(f"{PATH}/samples/{number}/label", {"label": right})
    click.echo(f"sample {number} is {right}")


@dataset.command("export")
@_of
@click.option("--labelled/--all", default=True, help="Only what has a label; the default.")
@click.option("--before", type=click.IntRange(min=0), metavar="ID", help="Those of smaller ids only.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="X.npz or X.parquet.")
@remote
def export(
    what: str | None,
    labelled: bool,
    before: int | None,
    output: Path,
    home_path: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Write inputs, labels and lineage as .npz, which edge-convert reads, or as Parquet.

    The newest, as many as fit one file; it says when there are older ones.
    """
    form = output.suffix.removeprefix(".")
    if form not in ("npz", "parquet"):
        raise RequestInvalid(f"{output} ends neither in .npz nor in .parquet")
    query = {"form": form, **({"what": what} if what else {}), **({"labelled": True} if labelled else {})}
    query |= {} if before is None else {"before": before}
    answer = connect(home_path, url, token).download(f"{PATH}/export", **query)
    content = answer.content
    try:
        output.write_bytes(content)
    except OSError as error:
        raise RequestInvalid(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"wrote {output} ({len(content)} bytes)")
    if "next" in answer.links:
        [older] = parse_qs(urlsplit(answer.links["next"]["url"]).query)["before"]
        click.echo(f"older ones did not fit; they are in: --before {older}")


@dataset.command("retrain")
@click.argument("what", metavar="DIGEST|RELEASE")
@click.option("--why", default="", help="Told to the receivers.")
@remote
def retrain(what: str, why: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Ask for a retraining: the webhook retraining.requested, with where the samples are."""
    found = connect(home_path, url, token).post(f"{PATH}/retraining", {"what": what, "why": why})
    for bundle, receivers in found["bundles"].items():
        click.echo(f"{short(bundle)}: {receivers} receivers are told")
