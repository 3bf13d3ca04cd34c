"""Search by digest: which bundles a digest, or the beginning of one, has to do with, and as what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from edge_contracts.errors import FormatInvalid
from edge_contracts.manifest import Manifest
from edge_contracts.model import parse_json
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.schema import bundles, releases, windows

MIN_DIGITS = 6
_PREFIX = re.compile(rf"^(sha256:)?([0-9a-f]{{{MIN_DIGITS},64}})$")


@dataclass(frozen=True)
class Hit:
    """One digest that begins as asked, and the bundle that it belongs to.

    Args:
        what: "bundle", "archive", "source", "calibration", "evaluation", "recipe", "labels" or
            "artifact int8: artifacts/int8.tflite".
        artifact: Id of the artifact when it is one's file, else None: all of the bundle.
        counter, release, profile: None and "" of a bundle that devices have reported and nobody published
            here.
    """

    digest: str
    what: str
    bundle: str
    artifact: str | None = None
    counter: int | None = None
    release: str = ""
    profile: str = ""


def prefix_of(text: str) -> str:
    """A whole or begun digest in the form `sha256:...`.

    Raises:
        RequestInvalid: It is not one, or too short to name anything.
    """
    match = _PREFIX.match(text.strip().lower())
    if match is None:
        raise RequestInvalid(
            f"{text!r:.80} is not a digest: give {MIN_DIGITS} to 64 hex digits, with sha256: or without"
        )
    return f"sha256:{match[2]}"


def digests_of(manifest: Manifest) -> Iterator[tuple[str, str, str | None]]:
    """Every digest that a manifest names: digest, what it is, artifact."""
    for artifact in manifest.artifacts:
        for file in artifact.files:
            yield file.digest, f"artifact {artifact.id}: {file.path}", artifact.id
    yield manifest.golden.file.digest, "golden inputs", None
    if manifest.labels_digest:
        yield manifest.labels_digest, "labels", None
    provenance = manifest.provenance
    yield provenance.source_digest, f"source {provenance.source_name}", None
    yield provenance.calibration, "calibration", None
    if provenance.evaluation:
        yield provenance.evaluation, "evaluation", None
    named = {provenance.source_digest, provenance.calibration, provenance.evaluation}
    for material in provenance.materials:
        if material.digest not in named:
            yield material.digest, f"{material.role} {material.name}", None


def manifest_of(text: str) -> Manifest:
    """A stored manifest."""
    return parse_json(Manifest, text.encode(), "the stored manifest", "edgefleet.manifest/1")


def find(connection: Connection, text: str) -> list[Hit]:
    """Everything whose digest begins so, newest release first.

    Raises:
        RequestInvalid: Not a digest.
        NotFound: Nothing begins so.
    """
    prefix = prefix_of(text)
    hits: list[Hit] = []
    rows = connection.execute(
        select(bundles, releases.c.name, releases.c.version)
        .join(releases, releases.c.counter == bundles.c.counter)
        .order_by(bundles.c.counter.desc(), bundles.c.profile)
    )
    for row in rows:
        named: list[tuple[str, str, str | None]] = [
            (row.digest, "bundle", None),
            (row.archive, "archive", None),
        ]
        with suppress(FormatInvalid):  # one that this release cannot read any more: its own digests count
            named += digests_of(manifest_of(row.manifest))
        hits += [
            Hit(digest, what, row.digest, artifact, row.counter, f"{row.name}@{row.version}", row.profile)
            for digest, what, artifact in named
            if digest.startswith(prefix)
        ]
    published = {hit.bundle for hit in hits}
    hits += [
        Hit(digest, "bundle, not published here", digest)
        for digest in _reported(connection, prefix)
        if digest not in published
    ]
    if not hits:
        raise NotFound(f"nothing known here has a digest that begins with {prefix}")
    return hits


def _reported(connection: Connection, prefix: str) -> Iterator[str]:
    """Bundles that devices have reported: for each one look into the index, whatever there is of windows."""
    own = windows.c.bundle
    behind = own < f"{prefix}g"  # no hex digit comes after
    found = connection.execute(select(func.min(own)).where(own >= prefix, behind)).scalar()
    while found is not None:
        yield found
        found = connection.execute(select(func.min(own)).where(own > found, behind)).scalar()


def release_counter(connection: Connection, text: str) -> int | None:
    """The counter of a release by its counter or NAME@VERSION; None when it names none."""
    if text.isascii() and text.isdigit() and len(text) < MIN_DIGITS:
        wanted = releases.c.counter == int(text)
    else:
        name, at, version = text.partition("@")
        if not at:
            return None
        wanted = (releases.c.name == name) & (releases.c.version == version)
    return connection.execute(select(releases.c.counter).where(wanted)).scalar()


def require_release(connection: Connection, text: str) -> int:
    """The counter of a release by its counter or NAME@VERSION.

    Raises:
        NotFound: It has not been published.
    """
    counter = release_counter(connection, text)
    if counter is None:
        raise NotFound(
            f"no release {text!r:.100}; give its counter or NAME@VERSION (edge-fleet release list)"
        )
    return counter
