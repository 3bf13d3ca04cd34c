"""A batch from the parent's side: plan, start workers, wait, put the output together."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import IO, Any

from edge_agent.batch import columns, progress
from edge_agent.batch.progress import Plan
from edge_agent.batch.rows import import_pyarrow, open_rows
from edge_agent.errors import ChildFailed
from edge_agent.runtimes.choice import Choice, choose, options
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import TrustedKeys
from edge_contracts.signing import verify

COMMAND = (sys.executable, "-P", "-m", "edge_agent.batch.worker")
PART_ROWS = 500  # a kill costs so many rows of each worker


@dataclass(frozen=True)
class Batch:
    """What to answer, and how.

    Args:
        trusted: Keys that may have signed the bundle; None leaves the signature unchecked.
        jobs: Worker processes.
        threads: Of the runtime in each.
    """

    bundle: Path
    inputs: Path
    output: Path
    trusted: TrustedKeys | None
    jobs: int = 1
    threads: int = 1
    part_rows: int = PART_ROWS


@dataclass(frozen=True)
class Done:
    """What a batch came to.

    Args:
        resumed: Rows that an earlier run had answered.
        refused: Rows without an answer, by reason.
    """

    rows: int
    resumed: int
    refused: Mapping[str, int]
    signed_by: str | None
    choice: Choice


def run_batch(batch: Batch, begin: Callable[[int, int], Callable[[int], None]]) -> Done:
    """Answer every row.

    Args:
        begin: Told the number of rows and of those that are done; gives what is told of further ones.

    Raises:
        ContractError, AgentError: The bundle or the set is not in order; nothing was begun.
        ChildFailed: A worker died or gave up; finished parts are kept, and the next run goes on there.
    """
    import_pyarrow()
    opened = open_bundle(batch.bundle)
    signed_by = verify(opened, batch.trusted).key_id if batch.trusted is not None else None
    choice = choose(options(opened.manifest))
    rows = open_rows(batch.inputs, opened.manifest)
    plan = Plan(opened.digest, str(choice.option), rows.count, rows.fingerprint, batch.part_rows)
    del rows  # an .npz may be large, and the workers read it
    with progress.progress_of(batch.output, plan) as parts, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        opened.extract(folder)
        there = progress.finished(parts, plan)
        resumed = sum(stop - start for start, stop in map(plan.span, there))
        advance = begin(plan.rows, resumed)
        job = {
            "folder": str(folder),
            "parts": str(parts),
            "plan": asdict(plan),
            "input": str(batch.inputs),
            "option": asdict(choice.option),
            "threads": batch.threads,
            "workers": batch.jobs,
        }
        if len(there) < plan.parts:
            for told in _work([job | {"worker": number} for number in range(batch.jobs)]):
                advance(told["rows"])
        progress.assemble(parts, plan, batch.output, columns.schema(opened.manifest))
    return Done(plan.rows, resumed, columns.refusals(batch.output), signed_by, choice)


def _work(jobs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Run workers and give what they tell of parts.

    Raises:
        ChildFailed: One died or gave up; the others are ended.
    """
    told: Queue[dict[str, Any] | None] = Queue()
    with tempfile.TemporaryFile() as stderr:
        workers = [_start(job, stderr) for job in jobs]
        readers = [Thread(target=_read, args=(worker.stdout, told), daemon=True) for worker in workers]
        for reader in readers:
            reader.start()
        running = len(workers)
        try:
            while running:
                one = told.get()
                if one is None:
                    running -= 1
                elif "failed" in one:
                    raise ChildFailed(one["failed"], one["detail"])
                else:
                    yield one
        finally:
            for worker in workers:
                if running:
                    worker.kill()
                worker.wait()
            for reader in readers:
                reader.join()
            for worker in workers:
                if worker.stdout is not None:
                    worker.stdout.close()
        if any(worker.returncode for worker in workers):
            stderr.seek(0)
            tail = " ".join(stderr.read()[-300:].decode(errors="replace").split())
            raise ChildFailed("crash", f"a worker died; finished parts are kept, run it again: {tail}")


def _start(job: dict[str, Any], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    if worker.stdin is None:
        raise AssertionError("a worker is started with a pipe to its stdin")
    worker.stdin.write(json.dumps(job).encode())
    worker.stdin.close()
    return worker


def _read(stdout: IO[bytes], told: Queue[dict[str, Any] | None]) -> None:
    for line in stdout:
        told.put(json.loads(line))
    told.put(None)
