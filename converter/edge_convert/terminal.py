"""What a person at a terminal sees: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, each as wide as its widest cell; numbers to the right."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text in ("", "-", "exact") or text[:2].lstrip("-")[:1].isdigit()


# Is told what is being done, before it is done.
Step = Callable[[str], None]


def silent(text: str) -> None:
    """A `Step` that tells nobody."""


@contextmanager
def progress(title: str, share: Callable[[], float] | None = None) -> Iterator[Step]:
    """Show what is being done while it is done; silent when stderr is not a terminal.

    Args:
        share: How much of the whole is done, 0 to 1; None where nobody knows.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None if share is None else 1.0)

        def step(text: str) -> None:
            bar.update(task, completed=share() if share else None, description=text, refresh=True)

        yield step
