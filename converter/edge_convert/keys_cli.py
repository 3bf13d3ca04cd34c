"""`edge-convert keys`: signed statements about keys and releases, for devices that no server reaches too."""

from __future__ import annotations

from pathlib import Path

import click

from edge_contracts.errors import KeyInvalid
from edge_convert.options import PATH, json_option, print_json


@click.group()
def keys() -> None:
    """Sign statements: a change of keys, a release for a stick (docs/updates.md)."""


@keys.command()
@click.option("--sign-key", required=True, type=PATH, help="Private key that devices trust now.")
@click.option("--counter", required=True, type=click.IntRange(min=0), help="Higher than the last one.")
@click.option("--fleet", help="Only for devices of this fleet [default: all that trust the signer].")
@click.option("--add", "added", multiple=True, type=PATH, help="Public key of a new publisher; repeatable.")
@click.option("--retire", multiple=True, help="Id or file of a publisher that signs nothing new; repeatable.")
@click.option(
    "--revoke", multiple=True, help="Id or file of a publisher that counts for nothing; repeatable."
)
@click.option(
    "--stop", is_flag=True, help="Devices with nothing else stop answering with a revoked key's bundle."
)
@click.option("--director", type=PATH, help="Public key of the server's new director.")
@click.option("--reason", default="", help="One line for a person.")
@click.option("--output", required=True, type=PATH, help="File to write, such as rotate.keys.")
@json_option
def change(
    sign_key: Path,
    counter: int,
    fleet: str | None,
    added: tuple[Path, ...],
    retire: tuple[str, ...],
    revoke: tuple[str, ...],
    stop: bool,
    director: Path | None,
    reason: str,
    output: Path,
    as_json: bool,
) -> None:
    """Say whom devices trust from now on; the old key signs for the new one.

    Devices follow it by `edge-agent trust apply FILE`, from a stick, or with an assignment. A retired key
    signs nothing new and what it signed stays; a revoked one counts for nothing.

    \b
    Example:
      edge-convert keys change --sign-key old/private.pem --counter 1 --add new/public.pem --output a.keys
      edge-convert keys change --sign-key new/private.pem --counter 2 --retire old/public.pem --output b.keys
    """
    from edge_contracts.keys import read_private, read_public
    from edge_contracts.model import parse_object
    from edge_contracts.trust import KeyStatement, sign_keys

    stated = {
        "fleet": fleet,
        "counter": counter,
        "add": tuple(read_public(path).base64 for path in added),
        "retire": tuple(map(_name, retire)),
        "revoke": tuple(map(_name, revoke)),
        "stop": stop,
        "director": read_public(director).base64 if director is not None else "",
        "reason": reason,
    }
    statement = parse_object(KeyStatement, stated, "the statement")
    if not (added or retire or revoke or director):
        raise click.UsageError("nothing is changed; give --add, --retire, --revoke or --director")
    _write(output, sign_keys(statement, read_private(sign_key)))
    if as_json:
        print_json({"output": str(output), **statement.model_dump(mode="json")})
        return
    click.echo(f"{output}: follow it with edge-agent trust apply {output.name}, or put it on a stick")


@keys.command()
@click.argument("bundle", type=PATH)
@click.option("--sign-key", required=True, type=PATH, help="Private key of a publisher.")
@click.option("--counter", required=True, type=click.IntRange(min=0), help="Of the release; only grows.")
@click.option("--device", help="Only for this device [default: all].")
@click.option(
    "--while-floor",
    type=click.IntRange(min=0),
    help="Permit going back on devices that have confirmed at most this release.",
)
@click.option("--output", type=PATH, help="File to write [default: BUNDLE with .release at its end].")
@json_option
def release(
    bundle: Path,
    sign_key: Path,
    counter: int,
    device: str | None,
    while_floor: int | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Give a bundle on a stick its release counter, which a server gives in an assignment.

    A device installs it by itself (`edge-agent run --media-folder`) when the counter is higher than that
    of every release it has confirmed, or when --while-floor permits going back. The permission ends by
    itself once the device has confirmed a later release than the one named.
    """
    from edge_contracts.bundle import open_bundle
    from edge_contracts.keys import TrustedKeys, read_private
    from edge_contracts.model import parse_object
    from edge_contracts.signing import verify
    from edge_contracts.trust import RELEASE_SUFFIX, ReleaseNote, sign_release

    key = read_private(sign_key)
    opened = open_bundle(bundle)
    verify(opened, TrustedKeys.of([key.public]))  # a note for somebody else's bundle would help nobody
    stated = {"bundle": opened.digest, "counter": counter, "device": device, "while_floor": while_floor}
    note = parse_object(ReleaseNote, stated, "the release note")
    path = output or bundle.with_suffix(RELEASE_SUFFIX)
    _write(path, sign_release(note, key))
    if as_json:
        print_json({"output": str(path), **note.model_dump(mode="json")})
        return
    click.echo(f"{path}: put it beside {bundle.name} on the stick")


def _name(text: str) -> str:
    """The id of a key that is given by its id or its file."""
    from edge_contracts.keys import read_public

    return read_public(Path(text)).key_id if Path(text).exists() else text


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise KeyInvalid(f"cannot write {path}: {error.strerror}") from None
