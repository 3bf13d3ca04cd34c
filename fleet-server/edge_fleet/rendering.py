"""Values in words for a person at a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under a header, in columns."""
    texts = [header, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(header))]
    for row in texts:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ago(at_ms: int | None) -> str:
    """How long ago a time in Unix milliseconds was."""
    return "never" if at_ms is None else f"{_span(time.time() - at_ms / 1000)} ago"


def ahead(at_ms: int | None) -> str:
    """In how long a time in Unix milliseconds comes."""
    return "never" if at_ms is None else f"in {_span(at_ms / 1000 - time.time())}"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
