"""Recall: which devices ran something, since when, until when, and how often it answered.

Everything is read from verified telemetry: each figure is a sum over windows, each window stands in an
envelope that the device signed, and the numbers of those envelopes are given, so that the answer can be
proved with nothing but the envelopes and the devices' public keys (`proof`). What a device lost or has
not sent yet is not in it: `lost` says how many records are missing from the streams that the answer
rests on, so that the figures are read as "at least".

Windows that were deleted after their time are in the daily sums that were made of them while they were
there: a run of its own, without a proof and without an artifact, to the day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Subquery, and_, func, or_, select, union

from edge_contracts.keys import PublicKey
from edge_contracts.topics import Channel, topic
from edge_fleet.access.device_keys import former_of, signer_of
from edge_fleet.lineage import find
from edge_fleet.schema import CHOICE, IS_A_DAY, bundles, devices, envelopes, gaps, rollups, windows
from edge_fleet.storage.rollups import DAY_S, FLEET, rolled_up_to

PROOF_PAGE = 200
_NAMES_PER_QUERY = 500


@dataclass(frozen=True)
class Target:
    """A bundle that is recalled, or one artifact of it."""

    bundle: str
    artifact: str | None = None


@dataclass(frozen=True)
class Range:
    """Envelopes of one stream, first and last number; every number between holds a window that counts."""

    epoch: str
    first_seq: int
    last_seq: int


@dataclass(frozen=True)
class Run:
    """What one device did with one artifact.

    Args:
        since_ms, until_ms: Of the first and last window, by the device's clock.
        first_received_ms, last_received_ms: The same by the server's clock.
        predictions: Answered inferences; at least, where `lost` is not 0.
        running: Whether the device's own last word is that it runs it now.
        lost: Records that the device has said it lost in the same streams.
        proof: The envelopes that the figures rest on; none of what is only in daily sums, which do not know
            the artifact (""), nor the runtime.
    """

    device: str
    bundle: str
    artifact: str
    runtimes: tuple[str, ...]
    since_ms: int
    until_ms: int
    first_received_ms: int
    last_received_ms: int
    windows: int
    predictions: int
    errors: int
    running: bool
    lost: int
    proof: tuple[Range, ...]


@dataclass(frozen=True)
class Overview:
    """What a recall comes to.

    Args:
        running: Of the runs, those that still go on.
        first: Some of the runs, by device.
    """

    runs: int
    devices: int
    predictions: int
    running: int
    first: tuple[Run, ...]


def targets_of(connection: Connection, text: str) -> list[Target]:
    """What a release or a digest names.

    Raises:
        NotFound: Nothing.
        RequestInvalid: It is neither.
    """
    counter = find.release_counter(connection, text)
    if counter is not None:
        rows = connection.execute(select(bundles.c.digest).where(bundles.c.counter == counter)).scalars()
        return [Target(digest) for digest in rows]
    if "@" in text:
        find.require_release(connection, text)
    hits = find.find(connection, text)
    whole = {hit.bundle for hit in hits if hit.artifact is None}
    some = {(hit.bundle, hit.artifact) for hit in hits if hit.bundle not in whole}
    return [Target(digest) for digest in sorted(whole)] + [Target(*pair) for pair in sorted(some, key=str)]


def overview(connection: Connection, targets: Sequence[Target], most: int) -> Overview:
    """How many ran one of the targets, summed up by the database, and the first runs."""
    own, digests = windows.c, {target.bundle for target in targets}
    runs = (
        select(own.device, func.sum(own.inferences).label("predictions"))
        .where(_of(targets))
        .group_by(own.device, own.bundle, own.artifact)
        .subquery()
    )
    ran = _total(connection, runs)
    gone = _gone(connection, digests)
    before = _total(connection, gone)
    devices_of = select(own.device).where(_of(targets))
    if before.runs:  # else nothing was deleted, and nobody is to be told apart
        devices_of = union(devices_of, select(gone.c.device)).subquery().select()
        counted = connection.execute(select(func.count()).select_from(devices_of.subquery())).scalar_one()
    else:
        devices_of = devices_of.distinct()
        counted = ran.devices
    names = devices_of.order_by(devices_of.selected_columns[0]).limit(most)
    return Overview(
        runs=int(ran.runs + before.runs),
        devices=counted,
        predictions=int(ran.predictions + before.predictions),
        running=_running(connection, targets),
        first=tuple(recall(connection, targets, list(connection.execute(names).scalars()))[:most]),
    )


def _total(connection: Connection, runs: Subquery) -> Row[Any]:
    """How many runs, how many devices, and what they answered."""
    of_device = (
        select(func.count().label("runs"), func.sum(runs.c.predictions).label("predictions"))
        .group_by(runs.c.device)
        .subquery()
    )
    return connection.execute(
        select(
            func.coalesce(func.sum(of_device.c.runs), 0).label("runs"),
            func.count().label("devices"),
            func.coalesce(func.sum(of_device.c.predictions), 0).label("predictions"),
        ).select_from(of_device)
    ).one()


def _running(connection: Connection, targets: Sequence[Target]) -> int:
    """How many of those that ran it say that they run it now."""
    artifact = func.coalesce(devices.c.state["active"]["artifact"].as_string(), "")
    now = or_(
        *(
            CHOICE.contains(f"\n{target.bundle}\n")
            if target.artifact is None
            else and_(CHOICE.contains(f"\n{target.bundle}\n"), artifact == target.artifact)
            for target in targets
        )
    )
    ran = select(windows.c.device).where(_of(targets))
    return connection.execute(
        select(func.count()).select_from(devices).where(now, devices.c.id.in_(ran))
    ).scalar_one()


def recall(
    connection: Connection, targets: Sequence[Target], among: Collection[str] | None = None
) -> list[Run]:
    """Every device that reported a window of one of the targets, by device, then by first use.

    Args:
        among: Only these devices, few; None for all.
    """
    rows = connection.execute(
        select(
            windows.c.device,
            windows.c.epoch,
            windows.c.seq,
            windows.c.bundle,
            windows.c.artifact,
            windows.c.runtime,
            windows.c.start_ms,
            windows.c.end_ms,
            windows.c.received_ms,
            windows.c.inferences,
            windows.c.errors,
        )
        .where(_of(targets), *_only(windows.c.device, among))
        .order_by(windows.c.device, windows.c.bundle, windows.c.artifact, windows.c.epoch, windows.c.seq)
    )
    runs = [_run(key, group) for key, group in _grouped(rows)]
    active = _active(connection, {run.device for run in runs})
    lost = _lost(connection, runs)
    complete = [
        Run(
            **{
                **vars(run),
                "running": active.get(run.device) == (run.bundle, run.artifact),
                "lost": lost.get(run.device, 0),
            }
        )
        for run in runs
    ]
    complete += _summed(connection, {target.bundle for target in targets}, complete, among)
    return sorted(complete, key=lambda run: (run.device, run.since_ms, run.artifact))


def ranges(numbers: Iterable[tuple[str, int]]) -> tuple[Range, ...]:
    """Numbers of envelopes, in order, as unbroken ranges."""
    found: list[Range] = []
    for epoch, seq in numbers:
        last = found[-1] if found else None
        if last is not None and last.epoch == epoch and seq <= last.last_seq + 1:
            found[-1] = Range(epoch, last.first_seq, max(seq, last.last_seq))
        else:
            found.append(Range(epoch, seq, seq))
    return tuple(found)


def proof(
    connection: Connection, fleet: str, targets: Sequence[Target], after: int = 0
) -> Iterator[dict[str, Any]]:
    """The signed envelopes themselves, a page of them in the order of arrival.

    Each comes with the topic that its signature covers and the key of the device that made it.

    Args:
        after: Row id of the last one that was given.
    """
    inside = (
        select(windows.c.device, windows.c.epoch, windows.c.seq).where(_of(targets)).distinct().subquery()
    )
    rows = connection.execute(
        select(envelopes, devices.c.public_key)
        .join(
            inside,
            and_(
                inside.c.device == envelopes.c.device,
                inside.c.epoch == envelopes.c.epoch,
                inside.c.seq == envelopes.c.seq,
            ),
        )
        .join(devices, devices.c.id == envelopes.c.device)
        .where(envelopes.c.id > after)
        .order_by(envelopes.c.id)
        .limit(PROOF_PAGE)
    )
    found = list(rows)
    former = former_of(connection, {row.device for row in found})
    for row in found:
        signer = signer_of(row.raw, PublicKey(row.public_key), former.get(row.device, {}))
        yield {
            "id": row.id,
            "device": row.device,
            "public_key": signer.base64,
            "topic": topic(fleet, row.device, Channel.TELEMETRY),
            "epoch": row.epoch,
            "seq": row.seq,
            "received_ms": row.received_ms,
            "envelope": row.raw.hex(),
        }


def _of(targets: Sequence[Target]) -> Any:
    return or_(
        *(
            windows.c.bundle == target.bundle
            if target.artifact is None
            else and_(windows.c.bundle == target.bundle, windows.c.artifact == target.artifact)
            for target in targets
        )
    )


def _grouped(rows: Iterable[Any]) -> Iterator[tuple[tuple[str, str, str], list[Row[Any]]]]:
    key, group = ("", "", ""), list[Row[Any]]()
    for row in rows:
        own = (row.device, row.bundle, row.artifact)
        if own != key and group:
            yield key, group
            group = []
        key = own
        group.append(row)
    if group:
        yield key, group


def _run(key: tuple[str, str, str], rows: Sequence[Row[Any]]) -> Run:
    device, bundle, artifact = key
    return Run(
        device=device,
        bundle=bundle,
        artifact=artifact,
        runtimes=tuple(sorted({row.runtime for row in rows})),
        since_ms=min(row.start_ms for row in rows),
        until_ms=max(row.end_ms for row in rows),
        first_received_ms=min(row.received_ms for row in rows),
        last_received_ms=max(row.received_ms for row in rows),
        windows=len(rows),
        predictions=sum(row.inferences for row in rows),
        errors=sum(row.errors for row in rows),
        running=False,
        lost=0,
        proof=ranges((row.epoch, row.seq) for row in rows),
    )


def _only(column: ColumnElement[str], among: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if among is None else [column.in_(among)]


def _gone(connection: Connection, digests: set[str]) -> Subquery:
    """Devices whose daily sums hold more than the windows that are still there, and how much more."""
    own = rollups.c
    kept = (
        select(
            windows.c.device,
            windows.c.bundle,
            func.count().label("windows"),
            func.sum(windows.c.inferences).label("inferences"),
        )
        .where(windows.c.bundle.in_(digests), windows.c.id <= rolled_up_to(connection))
        .group_by(windows.c.device, windows.c.bundle)
        .subquery()
    )
    sums = (
        select(
            own.device,
            own.bundle,
            func.sum(own.windows).label("windows"),
            func.sum(own.inferences).label("inferences"),
        )
        .where(IS_A_DAY, own.device != FLEET, own.bundle.in_(digests))
        .group_by(own.device, own.bundle)
        .subquery()
    )
    beside = (kept.c.device == sums.c.device) & (kept.c.bundle == sums.c.bundle)
    return (
        select(sums.c.device, (sums.c.inferences - func.coalesce(kept.c.inferences, 0)).label("predictions"))
        .select_from(sums.outerjoin(kept, beside))
        .where(sums.c.windows > func.coalesce(kept.c.windows, 0))
        .subquery()
    )


def _summed(
    connection: Connection, digests: set[str], runs: Sequence[Run], among: Collection[str] | None = None
) -> list[Run]:
    """What daily sums hold beyond the windows that are still there, by device and bundle."""
    own, day_ms = rollups.c, 1000 * DAY_S
    there: dict[tuple[str, str], tuple[int, int, int]] = {}
    counted = (func.count().label("n"), func.sum(windows.c.inferences), func.sum(windows.c.errors))
    first_ms: dict[tuple[str, str], int] = {}
    for run in runs:
        key = run.device, run.bundle
        first_ms[key] = min(run.first_received_ms, first_ms.get(key, run.first_received_ms))
    made: list[Run] = []
    for portion in _portions(digests):
        kept = connection.execute(
            select(windows.c.device, windows.c.bundle, *counted)
            .where(
                windows.c.bundle.in_(portion),
                windows.c.id <= rolled_up_to(connection),
                *_only(windows.c.device, among),
            )
            .group_by(windows.c.device, windows.c.bundle)
        )
        there |= {(row[0], row[1]): (row[2], int(row[3]), int(row[4])) for row in kept}
        sums = connection.execute(
            select(
                own.device,
                own.bundle,
                func.sum(own.windows).label("windows"),
                func.sum(own.inferences).label("inferences"),
                func.sum(own.errors).label("errors"),
                func.min(own.start_ms).label("first"),
                func.max(own.start_ms).label("last"),
            )
            .where(IS_A_DAY, own.device != FLEET, own.bundle.in_(portion), *_only(own.device, among))
            .group_by(own.device, own.bundle)
        )
        for row in sums:
            key = row.device, row.bundle
            known = there.get(key, (0, 0, 0))
            gone = int(row.windows) - known[0]
            if gone <= 0:
                continue
            until_ms = min(int(row.last) + day_ms, first_ms.get(key, int(row.last) + day_ms))
            made.append(
                Run(
                    device=row.device,
                    bundle=row.bundle,
                    artifact="",
                    runtimes=(),
                    since_ms=int(row.first),
                    until_ms=until_ms,
                    first_received_ms=int(row.first),
                    last_received_ms=until_ms,
                    windows=gone,
                    predictions=int(row.inferences) - known[1],
                    errors=int(row.errors) - known[2],
                    running=False,
                    lost=0,
                    proof=(),
                )
            )
    return made


def _active(connection: Connection, names: set[str]) -> dict[str, tuple[str, str]]:
    """Bundle and artifact that devices run by their own last word."""
    columns = (devices.c.id, devices.c.state)
    return {
        row.id: (row.state["active"]["bundle"], row.state["active"].get("artifact", ""))
        for portion in _portions(names)
        for row in connection.execute(select(*columns).where(devices.c.id.in_(portion)))
        if row.state and row.state.get("active")
    }


def _lost(connection: Connection, runs: Sequence[Run]) -> dict[str, int]:
    """Records that devices have owned up to losing, in the epochs that the runs rest on."""
    streams = {(run.device, piece.epoch) for run in runs for piece in run.proof}
    total = func.sum(gaps.c.records).label("records")
    lost: dict[str, int] = {}
    for portion in _portions({device for device, _ in streams}):
        for row in connection.execute(
            select(gaps.c.device, gaps.c.epoch, total)
            .where(gaps.c.device.in_(portion))
            .group_by(gaps.c.device, gaps.c.epoch)
        ):
            if (row.device, row.epoch) in streams:
                lost[row.device] = lost.get(row.device, 0) + int(row.records)
    return lost


def _portions(names: set[str]) -> Iterator[list[str]]:
    """So many at once as every database takes in one question."""
    ordered = sorted(names)
    return (ordered[at : at + _NAMES_PER_QUERY] for at in range(0, len(ordered), _NAMES_PER_QUERY))
