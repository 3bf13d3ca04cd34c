"""A process of a batch: opens the model once, answers every n-th part, and says which are done.

Started by `run.py`: one job as JSON on its stdin, one line of JSON on its stdout for each part, so that a
model which kills its process costs the parts in it. It ends with its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from edge_agent.batch import columns, progress
from edge_agent.batch.progress import Plan
from edge_agent.batch.rows import import_pyarrow, open_rows
from edge_agent.errors import AgentError
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_contracts.bundle import MANIFEST
from edge_contracts.errors import ContractError
from edge_contracts.manifest import FORMAT, Manifest
from edge_contracts.model import parse_json

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Read the job from stdin, tell of parts on stdout; what runtimes print goes to stderr."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    job = json.load(sys.stdin)
    try:
        for part in _work(job):
            print(json.dumps(part), file=told)
    except (AgentError, ContractError) as error:
        print(json.dumps({"failed": error.code, "detail": str(error)}), file=told)
    except OSError as error:
        print(json.dumps({"failed": "disk", "detail": error.strerror or str(error)}), file=told)


def _work(job: dict[str, Any]) -> Any:
    """Answer the parts that are this worker's and not there yet; tells of each."""
    arrow = import_pyarrow()
    folder, parts = Path(job["folder"]), Path(job["parts"])
    manifest = parse_json(Manifest, (folder / MANIFEST).read_bytes(), MANIFEST, FORMAT)
    plan = Plan(**job["plan"])
    rows = open_rows(Path(job["input"]), manifest)
    session = Session.open(folder, manifest, Choice(Option(**job["option"])), job["threads"], isolate=False)
    schema = columns.schema(manifest)
    for part in range(job["worker"], plan.parts, job["workers"]):
        if progress.part_path(parts, part).exists():
            continue
        start, stop = plan.span(part)
        lines = [
            columns.answer(session, number, row)
            for number, row in zip(range(start, stop), rows.take(start, stop), strict=True)
        ]
        progress.write_part(parts, part, arrow.Table.from_pylist(lines, schema=schema))
        yield {"part": part, "rows": len(lines)}
    session.close()


if __name__ == "__main__":
    main()
