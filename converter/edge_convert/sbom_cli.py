"""`edge-convert sbom`: a bundle in, its ML-BOM out; what is in it is `mlbom.py`'s matter."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_convert.options import PATH


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--trust",
    type=PATH,
    multiple=True,
    help="public.pem of a publisher: refuse the bundle when no such key has signed it; repeatable.",
)
@click.option("--output", type=PATH, help="File to write; the terminal when not given.")
def sbom(bundle: Path, trust: tuple[Path, ...], output: Path | None) -> None:
    """Write the CycloneDX 1.6 ML-BOM of BUNDLE: the model and its card, its files, data, source and tools.

    Every digest in the bundle is checked; the signature is when --trust is given. The same bundle gives
    the same bytes.

    \b
    Examples:
      edge-convert sbom out/digits-1-arm-cpu.bundle --trust keys/public.pem --output digits.cdx.json
      edge-convert sbom out/digits-1-arm-cpu.bundle | jq .metadata.component.modelCard
    """
    from edge_contracts.bundle import open_bundle
    from edge_contracts.keys import TrustedKeys, read_public
    from edge_contracts.signing import verify
    from edge_convert.provenance import mlbom

    opened = open_bundle(bundle)
    signed_by = verify(opened, TrustedKeys.of(read_public(p) for p in trust)).key_id if trust else ""
    text = json.dumps(mlbom.document(opened, signed_by), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
