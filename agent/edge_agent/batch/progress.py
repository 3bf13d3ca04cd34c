"""How far a batch has come, on the disk: finished parts beside the output, each whole or not there.

A part is written under another name, synced and renamed; the output is put together from all parts the
same way at the end. So a kill or a power cut costs the parts that were being worked on, and the output is
either complete and in order or not there.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.batch.rows import import_pyarrow
from edge_agent.device.home import write_durably
from edge_agent.errors import AgentError, HomeLocked
from edge_contracts.errors import one_line
from edge_contracts.on_disk import sync_folder

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What a batch is: the parts of another one are not ours.

    Args:
        bundle: Digest of the manifest.
        option: Artifact, runtime and device that answer.
        rows: How many there are.
        fingerprint: Of the set.
        part_rows: Rows of a part.
        columns: Version of what `columns.py` writes.
    """

    bundle: str
    option: str
    rows: int
    fingerprint: str
    part_rows: int
    columns: int = 2

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.rows // self.part_rows)

    def span(self, part: int) -> tuple[int, int]:
        """First row of a part, and the one after its last."""
        return part * self.part_rows, min(self.rows, (part + 1) * self.part_rows)


@contextmanager
def progress_of(output: Path, plan: Plan) -> Iterator[Path]:
    """The folder of the parts, locked, made if need be.

    Raises:
        HomeLocked: Another process writes the same output.
        AgentError: It holds the parts of another batch, or cannot be written.
    """
    folder = output.with_name(output.name + ".parts")
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AgentError(f"cannot write {folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HomeLocked(f"another process is writing {output}") from None
        _check(folder, output, plan)
        yield folder
    finally:
        os.close(lock)


def part_path(folder: Path, part: int) -> Path:
    """Where a finished part is."""
    return folder / f"{part:08d}.parquet"


def finished(folder: Path, plan: Plan) -> set[int]:
    """The parts that are there."""
    return {part for part in range(plan.parts) if part_path(folder, part).exists()}


def write_part(folder: Path, part: int, content: Any) -> None:
    """Put a finished part in its place, durably.

    Args:
        content: An Arrow table.
    """
    parquet = import_pyarrow("pyarrow.parquet")
    place = part_path(folder, part)
    beside = place.with_suffix(f".{os.getpid()}")
    parquet.write_table(content, beside)
    _settle(beside, place)


def assemble(folder: Path, plan: Plan, output: Path, schema: Any) -> None:
    """Put the output together from all parts, and clean up.

    Raises:
        AgentError: It cannot be written; the parts are still there.
    """
    parquet, arrow = import_pyarrow("pyarrow.parquet"), import_pyarrow()
    beside = output.with_name(output.name + ".part")
    try:
        with parquet.ParquetWriter(beside, schema) as writer:
            for part in range(plan.parts):
                writer.write_table(parquet.read_table(part_path(folder, part), schema=schema))
        _settle(beside, output)
    except (OSError, arrow.ArrowException) as error:
        beside.unlink(missing_ok=True)
        text = one_line(error)
        raise AgentError(f"cannot write {output}: {text}; finished parts are kept in {folder}") from None
    shutil.rmtree(folder)


def _check(folder: Path, output: Path, plan: Plan) -> None:
    """See that what is in the folder belongs to this batch."""
    stated = json.dumps(asdict(plan), sort_keys=True)
    try:
        found = (folder / PLAN).read_text()
    except FileNotFoundError:
        write_durably(folder / PLAN, stated.encode())
        return
    if found != stated:
        raise AgentError(
            f"{folder} holds the progress of another run: other inputs, another bundle or --part-rows; "
            f"delete it to begin anew, or name another output than {output.name}"
        )


def _settle(beside: Path, place: Path) -> None:
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(beside, place)
    sync_folder(place.parent)
