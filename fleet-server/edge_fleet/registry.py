"""Releases and their bundles: what may be published, and where the archives are.

Files are named by the digest of their bytes and written before the row that speaks of them, so that
a row never points at nothing; a file without a row is harmless.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, insert, select
from typing_extensions import TypedDict

from edge_contracts.bundle import open_bundle
from edge_contracts.digest import digest_of_file
from edge_contracts.errors import ContractError, KeyUnknown
from edge_contracts.keys import PublicKey, TrustedKeys
from edge_contracts.model import canonical_json
from edge_contracts.on_disk import sync_folder
from edge_contracts.signing import VerifiedManifest, verify
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, NotFound, ReleaseInvalid
from edge_fleet.lineage import stages
from edge_fleet.model import Instant
from edge_fleet.numbers import next_release
from edge_fleet.rollouts.phases import GUARDED, Phase
from edge_fleet.schema import bundles, publishers, releases, rollouts


@dataclass(frozen=True)
class Candidate:
    """A bundle that was checked and can be published.

    Args:
        archive: Digest of the file.
        path: Where the file is now.
    """

    verified: VerifiedManifest
    archive: str
    archive_bytes: int
    path: Path


def trusted_publishers(connection: Connection) -> TrustedKeys:
    """The keys whose bundles may be published."""
    rows = connection.execute(select(publishers)).all()
    out = {row.key_id for row in rows if row.revoked_ms is not None}
    former = {row.key_id for row in rows if row.retired_ms is not None} - out
    keys = {row.key_id: PublicKey(row.public_key) for row in rows}
    return TrustedKeys(
        {name: key for name, key in keys.items() if name not in out | former},
        {name: key for name, key in keys.items() if name in former},
        {name: key for name, key in keys.items() if name in out},
    )


def trust(connection: Connection, key: PublicKey, label: str, actor: str, now_ms: int) -> bool:
    """Trust a publisher's key; False when it was trusted already."""
    there = connection.execute(select(publishers.c.key_id).where(publishers.c.key_id == key.key_id)).first()
    if there is not None:
        return False
    connection.execute(
        insert(publishers).values(key_id=key.key_id, public_key=key.raw, label=label, added_ms=now_ms)
    )
    record(connection, actor, "publisher trusted", key.key_id, now_ms, label=label)
    return True


def examine(path: Path, name: str, trusted: TrustedKeys) -> Candidate:
    """Check an uploaded file: that it is a bundle, whole, and signed by a trusted publisher.

    Args:
        name: What the sender called it, for messages.

    Raises:
        ContractError: It is damaged, or not signed by a trusted key.
    """
    try:
        verified = verify(open_bundle(path, name), trusted)
    except KeyUnknown as error:
        raise KeyUnknown(f"{name}: {error}; trust the publisher with: edge-fleet trust add KEY") from None
    except ContractError as error:
        if name not in str(error):  # a fault of a file inside, which every bundle has
            error.args = (f"{name}: {error}",)
        raise
    return Candidate(verified, digest_of_file(path), path.stat().st_size, path)


def publish(
    connection: Connection, candidates: Sequence[Candidate], folder: Path, actor: str, now_ms: int
) -> int:
    """Publish bundles as one release, or add profiles to one; publishing the same again changes nothing.

    Args:
        folder: Gets the files.

    Returns:
        The release's counter.

    Raises:
        ReleaseInvalid: Of several names or versions, two for one profile, or a profile that the release
            has already in another build.
        Conflict: It is being rolled out, and the policy asks for an approval, which a further bundle has not.
    """
    name, version = _one_version(candidates)
    row = connection.execute(
        select(releases.c.counter).where(releases.c.name == name, releases.c.version == version)
    ).one_or_none()
    there = _bundles_of(connection, row.counter) if row else {}
    new = [c for c in candidates if there.get(c.verified.manifest.profile) != c.verified.digest]
    for candidate in new:
        profile = candidate.verified.manifest.profile
        if profile in there:
            raise ReleaseInvalid(
                f"release {name} {version} has another bundle for {profile} already; "
                "a published version is not changed, give the new one a version of its own"
            )
    if row is not None and not new:
        return int(row.counter)
    if row is not None and stages.policy(connection) is not stages.Policy.NONE:
        _require_at_rest(connection, int(row.counter), f"{name}@{version}")
    for candidate in new:
        _keep(candidate, folder)
    sync_folder(folder)
    counter = int(row.counter) if row else _create(connection, name, version, now_ms)
    connection.execute(insert(bundles), [_row(candidate, counter) for candidate in new])
    profiles = sorted(candidate.verified.manifest.profile for candidate in new)
    record(connection, actor, "release published", f"{name} {version}", now_ms, profiles=profiles)
    stages.note(connection, counter, stages.Event.PUBLISHED, actor, now_ms, ", ".join(profiles))
    return counter


def _require_at_rest(connection: Connection, counter: int, name: str) -> None:
    """Refuse a further bundle while devices are given the release: nobody would be asked about it."""
    own = rollouts.c
    at_work = own.phase.in_(list(GUARDED | {Phase.HELD}))
    found = select(own.id).where(own.counter == counter, at_work).order_by(own.created_ms).limit(1)
    rollout = connection.execute(found).scalar()
    if rollout is not None:
        raise Conflict(
            f"rollout {rollout} is at work with {name}, and a further bundle would reach devices that nobody "
            "approved it for; publish it when that has ended, or as a version of its own"
        )


def archive_path(folder: Path, archive: str) -> Path:
    """Where the file of an archive is."""
    return folder / f"{archive.removeprefix('sha256:')}.bundle"


class PublishedBundle(TypedDict):
    """A bundle of a release.

    Args:
        digest: Of its manifest: what names it everywhere.
        archive: Digest of the .bundle file.
        key_id: Of the publisher who signed it.
    """

    digest: str
    profile: str
    archive: str
    archive_bytes: int
    key_id: str


class ReleaseHead(TypedDict):
    """What names a release, and how far it has come.

    Args:
        counter: Grows with every release of this server; devices remember the largest that they confirmed.
    """

    counter: int
    name: str
    version: str
    created_ms: Instant
    stage: stages.Stage


class ReleaseSummary(ReleaseHead):
    """A release in short: one bundle for each profile."""

    bundles: list[PublishedBundle]


def listed(connection: Connection, counter: int | None = None) -> list[ReleaseSummary]:
    """Releases with their bundles, newest first.

    Raises:
        NotFound: There is no release of this counter.
    """
    query = select(releases).order_by(releases.c.counter.desc())
    if counter is not None:
        query = query.where(releases.c.counter == counter)
    found = [dict(row) for row in connection.execute(query).mappings()]
    if counter is not None and not found:
        raise NotFound(f"no release with counter {counter}")
    by_counter: dict[int, list[PublishedBundle]] = {}
    columns = (
        bundles.c.counter,
        bundles.c.digest,
        bundles.c.profile,
        bundles.c.archive,
        bundles.c.archive_bytes,
        bundles.c.key_id,
    )
    for row in connection.execute(select(*columns).order_by(bundles.c.profile)).mappings():
        bundle = dict(row)
        by_counter.setdefault(bundle.pop("counter"), []).append(cast("PublishedBundle", bundle))
    stage = stages.stages_of(connection)
    return [
        {
            "counter": release["counter"],
            "name": release["name"],
            "version": release["version"],
            "created_ms": release["created_ms"],
            "stage": stage.get(release["counter"], stages.Stage.CANDIDATE),
            "bundles": by_counter.get(release["counter"], []),
        }
        for release in found
    ]


def _one_version(candidates: Sequence[Candidate]) -> tuple[str, str]:
    if not candidates:
        raise ReleaseInvalid("a release needs at least one bundle")
    manifests = [candidate.verified.manifest for candidate in candidates]
    versions = sorted({f"{manifest.name} {manifest.version}" for manifest in manifests})
    if len(versions) > 1:
        raise ReleaseInvalid(f"the bundles are of {', '.join(versions)}; publish each version by itself")
    profiles = [manifest.profile for manifest in manifests]
    for profile in profiles:
        if profiles.count(profile) > 1:
            raise ReleaseInvalid(f"two bundles are for the profile {profile}; give one for each")
    return manifests[0].name, manifests[0].version


def _bundles_of(connection: Connection, counter: int) -> dict[str, str]:
    rows = connection.execute(select(bundles.c.profile, bundles.c.digest).where(bundles.c.counter == counter))
    return {row.profile: row.digest for row in rows}


def _create(connection: Connection, name: str, version: str, now_ms: int) -> int:
    counter = next_release(connection)
    connection.execute(
        insert(releases).values(counter=counter, name=name, version=version, created_ms=now_ms)
    )
    return counter


def _row(candidate: Candidate, counter: int) -> dict[str, Any]:
    return {
        "digest": candidate.verified.digest,
        "counter": counter,
        "profile": candidate.verified.manifest.profile,
        "archive": candidate.archive,
        "archive_bytes": candidate.archive_bytes,
        "manifest": canonical_json(candidate.verified.manifest).decode(),
        "key_id": candidate.verified.key_id,
    }


def _keep(candidate: Candidate, folder: Path) -> None:
    """Move the file to its place, durable."""
    with candidate.path.open("rb") as stream:
        os.fsync(stream.fileno())
    candidate.path.replace(archive_path(folder, candidate.archive))
