"""A large fleet as rows, written in bulk: devices that differ as those of a real fleet do. No tests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fleet_rows import FITS, WRONG, FleetRows, digest
from sqlalchemy import insert, select, text, update

from edge_contracts.messages import CHAIN_START
from edge_contracts.sketch import bin_index
from edge_fleet import schema
from edge_fleet.audit import record
from edge_fleet.migrations.versions.r0022_rollouts_are_counted import _STANDING
from edge_fleet.migrations.versions.r0025_kinds_of_devices_are_counted import _STATE
from edge_fleet.rollouts.counting import recount
from edge_fleet.storage.bulk import insert_many
from edge_fleet.storage.rollups import roll_up
from edge_fleet.store import Store, upsert

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
SITES = ("lab", "yard", "gate-north", "gate-south", "roof")
EPOCH = "0" * 16
_KEY = ("step_s", "start_ms", "device", "bundle")  # of sums
PORTION = 10_000
_WINDOW = ("device", "epoch", "seq", "received_ms", "bundle", "artifact", "runtime", "start_ms", "end_ms",
           "duration_ms", "inferences", "errors", "refused", "reasons", "latency", "scalars", "golden_total",
           "golden_agree", "cpu_s", "rss_bytes", "temperature_c", "trial", "drifting")  # fmt: skip
_MEMBER = ("rollout", "device", "stage", "bundle", "previous", "number", "back")
_ASSIGNMENT = ("device", "number", "bundle", "rollout", "stage", "permit_downgrade", "expires_ms", "phase",
               "code", "detail", "created_ms", "changed_ms")  # fmt: skip


def name_of(n: int) -> str:
    """The n-th device."""
    return f"cam-{n:06}"


def enlarge(store: Store, devices: int, now_ms: int, windows: int = 2, stays_ms: int = 0) -> None:
    """Three versions and so many devices: of a thousand eight are silent, five drift, three fail.

    Args:
        windows: Each device's in the last minutes.
        stays_ms: How long devices that are heard are not silent, whatever the time.
    """
    rows = FleetRows(store, lambda: now_ms)
    for version in ("1", "2", "3"):
        rows.publish(version, "arm-cpu", "intel-npu")
    for at in range(0, devices, PORTION):
        some = range(at, min(at + PORTION, devices))
        with store.write() as connection:
            insert_many(
                connection,
                schema.devices,
                tuple(_device(0, now_ms, stays_ms)),
                [tuple(_device(n, now_ms, stays_ms).values()) for n in some],
            )
            given = [
                (
                    name_of(n),
                    1,
                    digest(_version(n), _profile(n)),
                    None,
                    None,
                    False,
                    0,
                    _phase(n),
                    "",
                    "",
                    now_ms,
                    now_ms,
                )
                for n in some
            ]
            insert_many(connection, schema.assignments, _ASSIGNMENT, given)
            insert_many(
                connection,
                schema.streams,
                ("device", "epoch", "high", "top", "chain", "started_ms", "pruned_to"),
                [
                    (name_of(n), EPOCH, windows - 1, windows - 1, CHAIN_START, now_ms - HOUR_MS, -1)
                    for n in some
                ],
            )
            insert_many(
                connection,
                schema.windows,
                _WINDOW,
                [_window(n, k, now_ms) for k in range(windows) for n in some if not _silent(n)],
            )
    _sums(store, devices, now_ms)


def busy(store: Store, n: int, now_ms: int, hours: int = 24) -> None:
    """One device that reported every minute of the last hour, and every hour before that."""
    latency = {str(bin_index(4.0)): 300, str(bin_index(9.0)): 20}
    with store.write() as connection:
        own, stream = schema.devices.c, schema.streams.c
        state = connection.execute(select(own.state).where(own.id == name_of(n))).scalar_one()
        state = {**state, "next_seq": 1001}
        connection.execute(update(schema.devices).where(own.id == name_of(n)).values(state=state))
        whole = {"high": 1000, "top": 1000}
        connection.execute(update(schema.streams).where(stream.device == name_of(n)).values(whole))
        for minute in range(60):
            at = now_ms - minute * MINUTE_MS
            wave = 4 * ((minute // 5) % 3)
            values = {
                **dict(zip(_WINDOW, _window(n, 0, at), strict=True)),
                "epoch": EPOCH, "seq": 1000 - minute, "received_ms": at,
                "inferences": 320 + 10 * (minute % 7), "errors": int(minute % 17 == 0),
                "temperature_c": 48.0 + wave, "rss_bytes": (90 + wave) << 20,
                "bundle": digest(_version(n) if minute < 40 else "1", _profile(n)),
                "latency": {str(bin_index(4.0 + wave / 4)): 300, str(bin_index(9.0 + wave)): 20},
                "scalars": {"input:x:mean": [80 + wave, 160, 80 + 2 * wave]},
                "reasons": {}, "drifting": [],
            }  # fmt: skip
            connection.execute(insert(schema.windows).values(values))
        for hour in range(hours):
            for step_s in (3600, 86_400):
                start = (now_ms - hour * step_s * 1000) // (step_s * 1000) * step_s * 1000
                upsert(connection, schema.rollups, _sum(step_s, start, name_of(n), latency), _KEY)


def _sums(store: Store, devices: int, now_ms: int) -> None:
    """Of the whole fleet, by minute, for two hours."""
    with store.write() as connection:
        for minute in range(120):
            start = (now_ms - minute * MINUTE_MS) // MINUTE_MS * MINUTE_MS
            share = 1 + 0.3 * ((minute // 11) % 3)
            latency = {str(bin_index(4.0 * share)): 30 * devices, str(bin_index(11.0)): 3 * devices}
            values = _sum(60, start, "", latency, share)
            values |= {"inferences": round(400 * devices * share), "errors": round(0.03 * devices * share)}
            upsert(connection, schema.rollups, values, _KEY)  # the server sums up beside us


def _sum(
    step_s: int, start_ms: int, device: str, latency: dict[str, int], share: float = 1.0
) -> dict[str, Any]:
    return {
        "step_s": step_s, "start_ms": start_ms, "device": device, "bundle": digest("2"), "windows": 60,
        "duration_ms": step_s * 1000, "inferences": round(31_000 * share), "errors": round(40 * share),
        "refused": 3, "golden_total": 10, "golden_agree": 10, "labelled": 0, "correct": 0, "uncertain": 0,
        "drifting": 0, "cpu_s": 1.0, "rss_bytes": 90 << 20, "temperature_c": 51.0, "latency": latency,
        "scalars": {"input:x:mean": FITS},
    }  # fmt: skip


def _silent(n: int) -> bool:
    return n % 125 == 7


def _version(n: int) -> str:
    return "3" if n % 100 < 4 else "2" if n % 10 else "1"


def _profile(n: int) -> str:
    return "intel-npu" if n % 4 == 0 else "arm-cpu"


def _phase(n: int) -> str:
    return "refused" if n % 333 == 11 else "trial" if n % 100 == 3 else "confirmed"


def _device(n: int, now_ms: int, stays_ms: int) -> dict[str, Any]:
    name, profile = name_of(n), _profile(n)
    active = {
        "bundle": digest(_version(n), profile), "name": "digits", "version": _version(n), "artifact": "int8",
        "runtime": "litert 2.3.0", "fallback": "the NPU is in quarantine" if n % 200 == 8 else "",
    }  # fmt: skip
    state = {"active": active, "counter": int(_version(n)), "agent": "0.1.0", "next_seq": 2, "n": 1}
    lineage = ["raspberry-pi-4", "arm-cpu"] if profile == "arm-cpu" else ["intel-npu", "intel-cpu", "x86-cpu"]
    return {
        "id": name,
        "public_key": hashlib.sha256(name.encode()).digest(),
        "profile": json.dumps(lineage),
        "labels": json.dumps({"site": SITES[n % 5], "row": f"r{n % 40}"}),
        "credential": "",
        "enrolled_ms": now_ms - 30 * 24 * HOUR_MS,
        "last_seen_ms": now_ms - (HOUR_MS if _silent(n) else 1000 * (n % 50) - stays_ms),
        "state": json.dumps(state),
        "state_n": 1,
        "epoch": EPOCH,
    }


def _window(n: int, k: int, now_ms: int) -> tuple[Any, ...]:
    at = now_ms - (k + 1) * MINUTE_MS
    counts = WRONG if n % 200 == 77 else FITS
    latency = {str(bin_index(4.0 + n % 5)): 390, str(bin_index(12.0)): 10}
    return (
        name_of(n), EPOCH, k, at, digest(_version(n), _profile(n)), "int8", "litert 2.3.0",
        at - MINUTE_MS, at, MINUTE_MS, 400, int(n % 50 == 0), 0, "{}", json.dumps(latency),
        json.dumps({"input:x:mean": counts}), 0, 0, 1.0, 90 << 20, 50.0, False, "[]",
    )  # fmt: skip


def roll_out(store: Store, devices: int, now_ms: int) -> None:
    """Rollouts to a fleet of `enlarge`: r1 over, r2 taken back, r3 paused at a tenth of it, r4 a draft."""
    made = [
        ("r1", "2", "completed", 2, ("1%", "10%", "100%"), 1.0),
        ("r2", "3", "rolled-back", 1, ("10%", "100%"), 1.0),
        ("r3", "3", "paused", 1, ("1%", "10%", "100%"), 0.1),
        ("r4", "3", "draft", -1, ("50%", "100%"), 0.0),
    ]
    for number, (rollout, version, phase, stage, shares, reach) in enumerate(made):
        plan: dict[str, Any] = {
            "format": "edgefleet.rollout/1",
            "release": f"digits@{version}",
            "stages": list(shares),
        }
        if phase == "paused":  # a server that looks at it lets it be
            plan["gates"] = {}
        if rollout == "r4":
            plan["select"] = "site=yard|lab,profile=arm-cpu"
        began = now_ms - (4 - number) * HOUR_MS
        with store.write() as connection:
            row = {
                "id": rollout, "plan": plan, "counter": int(version), "phase": phase, "stage": stage,
                "since_ms": began, "started_ms": began, "why": "as planned", "created_ms": began,
                "created_by": "anna",
            }  # fmt: skip
            connection.execute(insert(schema.rollouts).values(row))
            for index in range(stage + 1):
                told = {"rollout": rollout, "stage": index, "begun_ms": began, "verdicts": []}
                connection.execute(insert(schema.rollout_stages).values(told))
            for step in range(stage + 2):
                event = "failed" if phase == "rolled-back" and step > stage else "advanced"
                was = "rolling-back" if event == "failed" else "running"
                told = {"rollout": rollout, "at_ms": began, "event": event, "phase": was, "stage": stage,
                        "actor": "conductor", "why": "as planned"}  # fmt: skip
                connection.execute(insert(schema.rollout_steps).values(told))
        _reach(store, rollout, version, round(reach * devices), 2 + 2 * number, began, stage, phase)
    with store.write() as connection:
        connection.execute(text(_STANDING))
        connection.execute(text(_STATE))
        recount(connection)


def furnish(store: Store, devices: int, now_ms: int) -> None:
    """Alerts of a thousandth of the devices, a log of what people did, and the sums of all windows."""
    with store.write() as connection:
        rows = [
            (rule, name_of(n), "warning", phase, 5.0, "nothing for 5 minutes", "{}", now_ms, now_ms, now_ms)
            for phase, share in (("firing", 1000), ("resolved", 100))
            for rule in ("silence",)
            for n in range(0, devices, share)
        ]
        columns = ("rule", "subject", "level", "phase", "value", "why", "evidence", "since_ms", "fired_ms",
                   "changed_ms")  # fmt: skip
        insert_many(connection, schema.alerts, columns, rows)
        for n in range(0, devices, 20):
            record(connection, "token/enrol", "device enrolled", name_of(n), now_ms - 1000)
    while True:
        with store.write() as connection:
            if not roll_up(connection, 20_000):
                return


def _reach(
    store: Store, rollout: str, version: str, reached: int, number: int, at_ms: int, stage: int, phase: str
) -> None:
    """Every device of a rollout with its assignment, and the one that takes it back."""
    undone = phase == "rolled-back"
    for begin in range(0, reached, PORTION):
        some = range(begin, min(begin + PORTION, reached))
        given, members = [], []
        for n in some:
            where = 0 if n * 10 < reached else stage
            bundle, before = digest(version, _profile(n)), digest("1", _profile(n))
            state = _phase(n)
            code = "golden-disagrees" if state == "refused" else ""
            told = (rollout, where, False, 0)
            given.append((name_of(n), number, bundle, *told, state, code, "", at_ms, at_ms))
            if undone:
                back = "unreachable" if _silent(n) else "confirmed"
                given.append(
                    (name_of(n), number + 1, before, *told, back, "", "", at_ms, at_ms + 100 * (n % 97))
                )
            members.append(
                (rollout, name_of(n), where, bundle, before, number, number + 1 if undone else None)
            )
        with store.write() as connection:
            insert_many(connection, schema.assignments, _ASSIGNMENT, given)
            insert_many(connection, schema.rollout_members, _MEMBER, members)
