"""What lineage asks of the database: a release in full, what its bundles measured, what devices can run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, func, select

from edge_contracts.manifest import Manifest
from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.audit import record
from edge_fleet.errors import NotFound
from edge_fleet.lineage import stages, withdrawn
from edge_fleet.lineage.answers import BundleMeasured, BundlePromises, ReleaseInFull, ReleasesCompared
from edge_fleet.lineage.compare import Change, Measured, compare
from edge_fleet.lineage.find import manifest_of, require_release
from edge_fleet.lineage.resolution import Facts, Need, Offer, Resolution, resolve
from edge_fleet.registry import listed
from edge_fleet.schema import bundles, devices, meta, rollups, windows
from edge_fleet.storage.rollups import DAY_S, FLEET, rolled_up_to
from edge_fleet.store import upsert

NEEDS_KEY = "software_needs"
NOT_SUMMED_UP = 1_000  # of the newest windows, those that are read one by one


def shown(connection: Connection, text: str, devices: bool = True) -> ReleaseInFull:
    """A release with everything that is known of it: stage and history, and what each bundle promises.

    Args:
        devices: Whether to count those that measured it, which takes the longer the more reported.

    Raises:
        NotFound: It has not been published.
    """
    counter = require_release(connection, text)
    release = listed(connection, counter)[0]
    steps = stages.history(connection, counter)
    wanted = stages.policy(connection)
    name = f"{release['name']}@{release['version']}"
    manifests = _manifests(connection, counter)
    found = withdrawn.standing(connection, counter)
    return {
        "counter": counter,
        "name": release["name"],
        "version": release["version"],
        "created_ms": release["created_ms"],
        "stage": release["stage"],
        "history": steps,
        "policy": wanted,
        "refusal": stages.refusal(stages.stage_of(steps), steps, wanted, name),
        "withdrawal": found,
        "bundles": [
            {
                **bundle,
                **_promised(manifests[bundle["digest"]]),
                "measured": _as_dict(connection, bundle["digest"], devices),
            }
            for bundle in release["bundles"]
        ],
    }


def _promised(manifest: Manifest) -> BundlePromises:
    plain = manifest.model_dump(mode="json")
    golden = manifest.golden
    return {
        "task": manifest.task,
        "inputs": plain["inputs"],
        "outputs": plain["outputs"],
        "labels": plain["labels"],
        "evaluation": plain["evaluation"],
        "confidence": plain.get("confidence", {}),
        "gates": plain["gates"],
        "provenance": plain["provenance"],
        "golden": {
            "count": golden.count,
            "min_agreement": golden.min_agreement,
            "min_sqnr_db": golden.min_sqnr_db,
        },
        "artifacts": [
            {
                "id": artifact.id,
                "format": artifact.format,
                "precision": artifact.precision,
                "runtimes": list(artifact.runtimes),
                "bytes": artifact.bytes,
                "compiled_for": artifact.compiled_for,
                "not_compiled": artifact.not_compiled,
                "files": [file.model_dump(mode="json") for file in artifact.files],
            }
            for artifact in manifest.artifacts
        ],
    }


def _as_dict(connection: Connection, digest: str, devices: bool) -> BundleMeasured | None:
    found = measured(connection, digest)
    if found is None:
        return None
    told: BundleMeasured = {
        "inferences": found.inferences,
        "errors": found.errors,
        "latency_p50_ms": found.latency_p50_ms,
        "latency_p95_ms": found.latency_p95_ms,
    }
    return {**told, "devices": reporting(connection, digest)} if devices else told


def reporting(connection: Connection, digest: str) -> int:
    """How many devices reported a bundle in windows that are still there."""
    counted = select(func.count(windows.c.device.distinct())).where(windows.c.bundle == digest)
    return int(connection.execute(counted).scalar_one())


def measured(connection: Connection, digest: str) -> Measured | None:
    """What devices measured of a bundle; None when none has reported it.

    All windows are in the sums by day, but for the last that came: some of those are read one by one, so that
    a small fleet sees what it has just measured. A large one sees it when it has been summed up.
    """
    own, day = windows.c, rollups.c
    of_days = connection.execute(
        select(day.inferences, day.errors, day.latency).where(
            day.step_s == DAY_S, day.device == FLEET, day.bundle == digest
        )
    ).all()
    newest = select(own.id).order_by(own.id.desc()).limit(NOT_SUMMED_UP)
    beyond = connection.execute(
        select(own.inferences, own.errors, own.latency).where(
            own.id > rolled_up_to(connection), own.id.in_(newest), own.bundle == digest
        )
    ).all()
    rows = [*of_days, *beyond]
    if not rows:
        return None
    latency = merge_quantiles(
        QuantileSketch(bins={int(k): n for k, n in row.latency.items()}) for row in rows
    )
    return Measured(
        inferences=sum(int(row.inferences) for row in rows),
        errors=sum(int(row.errors) for row in rows),
        latency_p50_ms=latency.quantile(0.5),
        latency_p95_ms=latency.quantile(0.95),
    )


def compared(connection: Connection, before: str, after: str) -> ReleasesCompared:
    """Two releases, profile by profile; a profile that one of them lacks is said.

    Raises:
        NotFound: One of them has not been published.
    """
    counters = [require_release(connection, text) for text in (before, after)]
    old, new = ({m.profile: (d, m) for d, m in _manifests(connection, c).items()} for c in counters)
    names = [f"{r['name']}@{r['version']}" for c in counters for r in listed(connection, c)]
    both: dict[str, list[Change]] = {}
    for profile in sorted(old.keys() & new.keys()):
        (one, before_m), (other, after_m) = old[profile], new[profile]
        both[profile] = compare(before_m, after_m, (measured(connection, one), measured(connection, other)))
    return {
        "before": names[0],
        "after": names[1],
        "profiles": both,
        "removed_profiles": sorted(old.keys() - new.keys()),
        "added_profiles": sorted(new.keys() - old.keys()),
    }


def explained(
    connection: Connection, text: str, device: str | None = None, permit_downgrade: bool = False
) -> list[Resolution]:
    """What every device, or one, gets of a release, and why.

    Raises:
        NotFound: No such release, or no such device.
    """
    counter = require_release(connection, text)
    offers = offered(connection, counter)
    needs = software_needs(connection)
    return [
        resolve(offers, counter, facts, needs, permit_downgrade) for facts in device_facts(connection, device)
    ]


def unfit_for(connection: Connection, counter: int) -> dict[str, str]:
    """Devices whose runtimes or drivers can open no artifact of their bundle of a release, and why.

    Nothing is asked of the database where the fleet has stated no needs.
    """
    needs = software_needs(connection)
    if not needs:
        return {}
    offers = offered(connection, counter)
    found = (resolve(offers, counter, facts, needs, downgrade=True) for facts in device_facts(connection))
    # without a bundle for its profile the rollout says so in its own words
    return {
        one.device: one.why.removeprefix("nothing: ")
        for one in found
        if one.bundle is None and one.profile is not None
    }


def offered(connection: Connection, counter: int) -> list[Offer]:
    """The bundles of a release."""
    return [
        Offer(digest, manifest.profile, manifest.artifacts)
        for digest, manifest in _manifests(connection, counter).items()
    ]


def device_facts(connection: Connection, device: str | None = None) -> list[Facts]:
    """What devices that are not revoked have said of themselves, by id.

    Raises:
        NotFound: There is no such device.
    """
    last = select(func.max(windows.c.id)).group_by(windows.c.device)
    query = select(devices).where(devices.c.revoked_ms.is_(None)).order_by(devices.c.id)
    if device is not None:
        last = last.where(windows.c.device == device)
        query = query.where(devices.c.id == device)
    newest = {
        row.device: row
        for row in connection.execute(
            select(windows.c.device, windows.c.runtime, windows.c.software).where(windows.c.id.in_(last))
        )
    }
    found = []
    for row in connection.execute(query):
        window, state = newest.get(row.id), row.state or {}
        found.append(
            Facts(
                device=row.id,
                profile=tuple(row.profile),
                runtime=window.runtime if window else "",
                software=window.software if window else None,
                counter=state.get("counter", 0),
                active=(state.get("active") or {}).get("bundle"),
            )
        )
    if device is not None and not found:
        raise NotFound(f"no device {device!r:.80} that is enrolled and not revoked (edge-fleet devices)")
    return found


def software_needs(connection: Connection) -> list[Need]:
    """Which versions this fleet asks of the software that opens artifacts."""
    stated = connection.execute(select(meta.c.value).where(meta.c.key == NEEDS_KEY)).scalar()
    return [Need(**need) for need in json.loads(stated)] if stated else []


def set_software_needs(connection: Connection, needs: Sequence[Need], actor: str, now_ms: int) -> None:
    """Replace them."""
    plain = [asdict(need) for need in needs]
    upsert(connection, meta, {"key": NEEDS_KEY, "value": json.dumps(plain)}, ("key",))
    record(connection, actor, "software needs", "releases", now_ms, needs=[str(need) for need in needs])


def _manifests(connection: Connection, counter: int) -> dict[str, Manifest]:
    rows = connection.execute(
        select(bundles.c.digest, bundles.c.manifest)
        .where(bundles.c.counter == counter)
        .order_by(bundles.c.profile)
    )
    return {row.digest: manifest_of(row.manifest) for row in rows}
