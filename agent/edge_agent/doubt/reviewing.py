"""What the commands `review list|show|export` do: kept inputs as people and programs read them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.device.home import Home
from edge_agent.doubt.reviewer import ring_of
from edge_agent.doubt.ring import Entry, Head
from edge_agent.errors import AgentError, ReviewDamaged
from edge_contracts.arrays import Arrays, write_npz
from edge_contracts.digest import short

NO_CLASS = -1


def listed(home: Home) -> list[dict[str, Any]]:
    """Everything that is kept, oldest first; raises HomeInvalid when it cannot be read."""
    return [_as_json(entry) for entry in ring_of(home).entries()]


def listed_as_text(entries: list[dict[str, Any]]) -> str:
    """A line for each."""
    if not entries:
        return "nothing is kept for review"
    lines = [f"{'number':>6}  {'when':19}  {'why':12} {'confidence':>10}  {'answer':12} {'label':12} request"]
    for one in entries:
        if "damage" in one:
            lines.append(f"{one['number']:>6}  {one['damage']}")
            continue
        sure = "" if one["confidence"] is None else f"{one['confidence']:.3f}"
        lines.append(
            f"{one['number']:>6}  {one['time'][:19]}  {one['reason']:12} {sure:>10}  "
            f"{one['answer_name'][:12]:12} {one['label_name'][:12]:12} {one['request'][:60]}"
        )
    return "\n".join([*lines, f"{len(entries)} inputs, {sum(one['bytes'] for one in entries)} bytes"])


def shown(home: Home, number: int) -> dict[str, Any]:
    """One of them with its values in short; raises ReviewDamaged when it cannot be read."""
    head, inputs = ring_of(home).load(number)
    return _of_head(number, head) | {
        "inputs": {
            name: {
                "shape": list(values.shape),
                "dtype": str(values.dtype),
                "min": float(values.min()),
                "max": float(values.max()),
                "mean": float(values.mean()),
            }
            for name, values in inputs.items()
        }
    }


def shown_as_text(found: dict[str, Any]) -> str:
    """A line for each thing that is known."""
    lines = [
        f"{name:12} {value}" for name, value in found.items() if name != "inputs" and value not in ("", None)
    ]
    for name, one in found["inputs"].items():
        lines.append(
            f"{'input':12} {name} {one['dtype']} {one['shape']}: "
            f"{one['min']:.4g} to {one['max']:.4g}, mean {one['mean']:.4g}"
        )
    return "\n".join(lines)


def export_to(home: Home, output: Path, labelled: bool, bundle: str | None) -> str:
    """Write kept inputs to an .npz file: the whole file or none.

    Args:
        labelled: Only those with a label.
        bundle: Only those of the bundle whose digest begins so (without "sha256:").

    Returns:
        What was done, one line.

    Raises:
        ReviewDamaged: There is nothing to export.
        AgentError: The file cannot be written, or the inputs are of different models.
    """
    ring = ring_of(home)
    found: list[tuple[Head, Arrays]] = []
    damaged = 0
    for entry in ring.entries():
        head = entry.head
        if head is None:
            damaged += 1
            continue
        if labelled and head.label is None:
            continue
        if bundle is not None and not head.bundle.removeprefix("sha256:").startswith(
            bundle.removeprefix("sha256:")
        ):
            continue
        try:
            found.append(ring.load(entry.number))
        except ReviewDamaged:
            damaged += 1  # damaged, or pushed out by a newer one in the meantime
    if not found:
        raise ReviewDamaged("no such input is kept" + (f"; {damaged} are damaged" if damaged else ""))
    shapes = {
        tuple((name, v.shape, v.dtype.str) for name, v in sorted(inputs.items())) for _, inputs in found
    }
    if len(shapes) > 1:
        raise AgentError("the inputs are of models with different contracts; choose one with --bundle DIGEST")
    content = write_npz(_stacked(found))
    beside = output.with_name(output.name + ".part")
    try:
        beside.write_bytes(content)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise AgentError(f"cannot write {output}: {error.strerror or error}") from None
    known = sum(head.label is not None for head, _ in found)
    more = f", {damaged} damaged ones left out" if damaged else ""
    return f"{len(found)} inputs in clear in {output}, {known} with a label{more}"


def _stacked(found: list[tuple[Head, Arrays]]) -> Arrays:
    names = sorted(found[0][1])
    arrays: Arrays = {
        ("x" if len(names) == 1 else name): np.concatenate([inputs[name] for _, inputs in found])
        for name in names
    }
    heads = [head for head, _ in found]
    arrays["y"] = np.array([NO_CLASS if h.label is None else h.label for h in heads], np.int64)
    arrays["answer"] = np.array([NO_CLASS if h.answer is None else h.answer for h in heads], np.int64)
    arrays["confidence"] = np.array([np.nan if h.confidence is None else h.confidence for h in heads])
    return arrays


def _as_json(entry: Entry) -> dict[str, Any]:
    size = {"bytes": entry.size_bytes}
    if entry.head is None:
        return {"number": entry.number, "damage": entry.damage} | size
    return _of_head(entry.number, entry.head) | size


def _of_head(number: int, head: Head) -> dict[str, Any]:
    return {
        "number": number,
        "time": datetime.fromtimestamp(head.time_ms / 1000, UTC).isoformat(),
        "reason": head.reason,
        "request": head.request,
        "bundle": short(head.bundle),
        "artifact": head.artifact,
        "confidence": head.confidence,
        "answer": head.answer,
        "answer_name": head.answer_name or ("" if head.answer is None else str(head.answer)),
        "other": head.other,
        "label": head.label,
        "label_name": head.label_name or ("" if head.label is None else str(head.label)),
    }
