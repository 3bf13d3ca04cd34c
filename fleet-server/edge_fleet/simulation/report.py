"""A dry run for people and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edge_fleet.simulation.defects import Kind
from edge_fleet.simulation.study import Study, StudyRow

_BAR = 24
UNKNOWN = (
    "every device is taken to get the release: whom it leaves out is known only of a recorded fleet and a "
    "published release"
)


def lines(study: Study) -> list[str]:
    """The table, with a bar for the devices that are exposed."""
    good, *bad = study.rows
    expires = any(row.expired for row in study.rows)
    expired = f"{_share(good.expired)} ended by the deadline; " if expires else ""
    told = [
        f"{study.devices} devices, {good.runs} runs each",
        f"a good release: {_share(good.completed)} completed, {duration(good.ended_s)}, "
        f"{size(good.sent_bytes)} downloaded; {_share(good.waits)} held for a person; {expired}"
        f"{_share(good.halted)} halted falsely (at most {_share(study.false_halt_most)})",
        *notes(study),
    ]
    if study.without is None:
        told.append(UNKNOWN)
    else:
        told += [f"left out, {count}: {why}" for why, count in most_frequent(study.without)]
    if study.left_out:
        told.append(f"not simulated, taken to pass: {', '.join(study.left_out)}")
    most = max((row.exposed_most for row in bad), default=1.0) or 1.0
    body = [
        (
            label(row),
            _share(row.halted),
            _share(row.waits),
            *([_share(row.expired)] if expires else []),
            _share(row.completed),
            f"{row.exposed:.0f}",
            f"{row.exposed_most:.0f}",
            duration(row.ended_s) if row.halted else "-",
            "#" * max(1, round(_BAR * row.exposed_most / most)),
        )
        for row in bad
    ]
    ends = ("halted", "held", *(["expired"] if expires else []), "not seen")
    return told + _table([("defect", *ends, "exposed", "95 %", "after", ""), *body])


def notes(study: Study) -> list[str]:
    """What a person has to know of how the runs are meant, a sentence each."""
    told = []
    if study.starts_s is not None:
        at = datetime.fromtimestamp(study.starts_s, UTC)
        told.append(f"each run starts at {at:%Y-%m-%d %H:%M} UTC: windows and deadline are kept")
    told += [f"{stage} names no device of this fleet: it adds nobody" for stage in study.empty]
    if study.unlike:
        told.append(f"not simulated: {'; '.join(study.unlike)}")
    return told


def as_dict(study: Study) -> dict[str, Any]:
    """The same for a program."""
    return {
        "devices": study.devices,
        "false_halt_most": study.false_halt_most,
        "left_out": list(study.left_out),
        "without": None if study.without is None else dict(study.without),
        "starts_s": study.starts_s,
        "empty": list(study.empty),
        "unlike": list(study.unlike),
        "rows": [
            {
                **dataclasses.asdict(row),
                "defect": {**dataclasses.asdict(row.defect), "kind": str(row.defect.kind)},
            }
            for row in study.rows
        ],
    }


def most_frequent(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    """Why devices are left out, what most are left out for first."""
    return sorted(reasons.items(), key=lambda one: (-one[1], one[0]))


def label(row: StudyRow) -> str:
    """A defect in a few words."""
    defect = row.defect
    if not defect.size:
        return "none"
    grown = f"{defect.size:+.0%}" if defect.kind is Kind.LATENCY else f"+{defect.size:.3g}"
    if defect.kind is not Kind.LATENCY:
        grown = f"+{100 * defect.size:.3g} %"
    on = "" if defect.on == 1 else f" on {defect.on:.0%}"
    return f"{grown} {defect.kind}{on}"


def duration(seconds: float | None) -> str:
    """A time in its largest fitting unit."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def size(amount: float) -> str:
    """Bytes in their largest fitting unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if amount >= scale:
            return f"{amount / scale:.1f} {unit}"
    return f"{amount:.0f} B"


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
