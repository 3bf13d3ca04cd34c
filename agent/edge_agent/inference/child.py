"""The child process: opens a model that nobody trusts yet, does one job with it, answers on stdout.

Started by `isolation.run_child`, or by `guard/isolated.py` for a model that stays. Whatever the runtime
prints goes to stderr, so that the answer is alone on stdout. A refusal is an answer too
({"failed": code, "detail": text}); only a crash is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from edge_agent.errors import AgentError
from edge_agent.guard.resident import stay
from edge_agent.inference.golden import GoldenSet, read_golden, run_golden
from edge_agent.inference.session import Session
from edge_agent.input.files import read_file
from edge_agent.runtimes.choice import Choice, Option, options
from edge_contracts.arrays import write_npz
from edge_contracts.bundle import MANIFEST
from edge_contracts.errors import ContractError
from edge_contracts.manifest import FORMAT, Manifest
from edge_contracts.model import parse_json

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WARM_UP = 3  # first runs pay for page faults and lazy packing
ROUNDS = 60  # timed inferences: the p95 is then the fourth slowest
TIMED_S = 5.0  # a slow model is timed for so long only


def main() -> None:
    """Read a job from stdin, answer on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    _contain(job["timeout_s"], job["parent"])
    try:
        answer = JOBS[job["kind"]](job)
    except (AgentError, ContractError) as error:
        answer = {"failed": error.code, "detail": str(error)}
    except MemoryError:
        answer = {"failed": "too-large", "detail": "the model needs more memory than there is"}
    json.dump(answer, answers)
    answers.close()


def trial(job: Mapping[str, Any]) -> dict[str, Any]:
    """Open a bundle, run its golden inputs, time it and weigh it; the parent judges.

    Args:
        job: folder, option (artifact, runtime, device), threads.
    """
    manifest, choice = _subject(job)
    golden = read_golden(Path(job["folder"]), manifest, choice.option.artifact)
    before = _reset_peak()
    session = Session.open(Path(job["folder"]), manifest, choice, job["threads"], isolate=False)
    result = run_golden(session, golden)
    latency_ms = _time(session, golden)
    peak = _memory("VmHWM")
    session.close()
    return {
        "golden_total": result.total,
        "golden_agree": result.agree,
        "golden_sqnr_db": result.sqnr_db if math.isfinite(result.sqnr_db) else str(result.sqnr_db),
        "golden_reason": result.reason,
        "latency_p95_ms": float(np.quantile(latency_ms, 0.95)),
        "memory_bytes": max(0, peak - before),
    }


def infer(job: Mapping[str, Any]) -> dict[str, Any]:
    """Answer every sample of a data file.

    Args:
        job: folder, option, threads, input (a file that `read_file` reads), output (.npz to write:
            "output/<name>", "latency_ms").
    """
    manifest, choice = _subject(job)
    prepared = read_file(Path(job["input"]), manifest)
    session = Session.open(Path(job["folder"]), manifest, choice, job["threads"], isolate=False)
    answer = session.infer(prepared.inputs)
    runtime = session.runtime
    session.close()
    outputs = {f"output/{name}": np.asarray(values) for name, values in answer.outputs.items()}
    Path(job["output"]).write_bytes(write_npz({**outputs, "latency_ms": answer.latency_ms}))
    return {
        "runtime": runtime,
        "samples": answer.samples,
        "flagged": dict(answer.flagged),
        "view": None if prepared.view is None else asdict(prepared.view),
    }


def explain(job: Mapping[str, Any]) -> dict[str, Any]:
    """Say what the answer to one sample rests on.

    Args:
        job: folder, option, threads, input (a file that `read_file` reads), row.
    """
    from edge_agent.explain import job as explaining

    manifest, choice = _subject(job)
    folder, asked = Path(job["folder"]), explaining.relaxed(manifest)
    session = Session.open(folder, asked, choice, job["threads"], isolate=False)
    told = explaining.explain(session, manifest, folder, Path(job["input"]), job["row"])
    session.close()
    return told


def ways(job: Mapping[str, Any]) -> dict[str, Any]:
    """Say where a bundle could run: to look for devices is to load their drivers.

    Args:
        job: folder.
    """
    manifest = _manifest(job)
    return {"ways": [[*astuple(option), missing] for option, missing in options(manifest).items()]}


JOBS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "trial": trial,
    "infer": infer,
    "explain": explain,
    "stay": stay,
    "ways": ways,
}


def _manifest(job: Mapping[str, Any]) -> Manifest:
    content = (Path(job["folder"]) / MANIFEST).read_bytes()
    return parse_json(Manifest, content, MANIFEST, FORMAT)


def _subject(job: Mapping[str, Any]) -> tuple[Manifest, Choice]:
    return _manifest(job), Choice(Option(**job["option"]))


def _time(session: Session, golden: GoldenSet) -> list[float]:
    """Latency of single inferences on golden inputs, milliseconds."""
    count = session.manifest.golden.count
    latency_ms: list[float] = []
    deadline = perf_counter() + TIMED_S
    for run in range(WARM_UP + ROUNDS):
        row = run % count
        answer = session.infer({name: values[row : row + 1] for name, values in golden.inputs.items()})
        latency_ms.append(float(answer.latency_ms[0]))
        if perf_counter() > deadline and run >= WARM_UP:
            break
    return latency_ms[WARM_UP:]


def _contain(timeout_s: float, parent: int) -> None:
    """See that nothing of this process outlives or outweighs its use.

    Args:
        timeout_s: 0 for a process that stays as long as its parent.
        parent: Its process id.
    """
    if timeout_s:
        signal.alarm(math.ceil(timeout_s) + 5)  # for systems without the next line
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it was dead before it was asked for
    for asked in (signal.SIGINT, signal.SIGTERM):  # may go to the whole group: it is the parent that ends us
        signal.signal(asked, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # no /proc: then the kernel has no such choice to make
        Path("/proc/self/oom_score_adj").write_text("1000")  # the first to go, long before the agent


def _reset_peak() -> int:
    """Start the peak of resident memory anew; resident memory now, bytes."""
    with contextlib.suppress(OSError):  # where it is not allowed, the peak so far stays in the figure
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> int:
    """A figure of /proc/self/status, bytes.

    Not getrusage: across exec its peak is inherited from the parent.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
