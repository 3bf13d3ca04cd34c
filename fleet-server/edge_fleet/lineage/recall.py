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
from typing import Any

from sqlalchemy import Connection, Row, func, select

from edge_fleet.lineage.deleted import deleted_runs
from edge_fleet.lineage.runs import Run, ranges
from edge_fleet.lineage.targets import Target, windows_of
from edge_fleet.schema import devices, gaps, windows
from edge_fleet.storage.portions import portions


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
        .where(windows_of(targets, among))
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
    complete += deleted_runs(connection, {target.bundle for target in targets}, complete, among)
    return sorted(complete, key=lambda run: (run.device, run.since_ms, run.artifact))


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


def _active(connection: Connection, names: set[str]) -> dict[str, tuple[str, str]]:
    """Bundle and artifact that devices run by their own last word."""
    columns = (devices.c.id, devices.c.state)
    return {
        row.id: (row.state["active"]["bundle"], row.state["active"].get("artifact", ""))
        for portion in portions(sorted(names))
        for row in connection.execute(select(*columns).where(devices.c.id.in_(portion)))
        if row.state and row.state.get("active")
    }


def _lost(connection: Connection, runs: Sequence[Run]) -> dict[str, int]:
    """Records that devices have owned up to losing, in the epochs that the runs rest on."""
    streams = {(run.device, piece.epoch) for run in runs for piece in run.proof}
    total = func.sum(gaps.c.records).label("records")
    lost: dict[str, int] = {}
    for portion in portions(sorted({device for device, _ in streams})):
        for row in connection.execute(
            select(gaps.c.device, gaps.c.epoch, total)
            .where(gaps.c.device.in_(portion))
            .group_by(gaps.c.device, gaps.c.epoch)
        ):
            if (row.device, row.epoch) in streams:
                lost[row.device] = lost.get(row.device, 0) + int(row.records)
    return lost
