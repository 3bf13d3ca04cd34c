"""Running a job in a child process, so that a file which kills its runtime kills only that.

The child is `child.py`; jobs and answers are small JSON objects, arrays go through files. This is the
parent's side: start, wait, and tell a crash from a hang from an answer.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from edge_agent.errors import ChildFailed

COMMAND = (
    sys.executable,
    "-P",
    "-m",
    "edge_agent.inference.child",
)  # -P: nothing is imported from the working folder
STDERR_TAIL = 300  # characters of what the child printed that are worth repeating


def run_child(job: Mapping[str, Any], timeout_s: float, command: Sequence[str] = COMMAND) -> dict[str, Any]:
    """Run a job in a child and wait for its answer.

    Args:
        job: What `child.JOBS` takes; `kind` names the job.
        timeout_s: The child is killed then.
        command: What to start; tests start other programs.

    Raises:
        ChildFailed: "crash" (a signal or an exit code), "hang" (timeout), "no-answer" (not JSON), or
            the code of the error with which the child refused.
    """
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        try:
            answer, _ = child.communicate(json.dumps({"timeout_s": timeout_s, **job}).encode(), timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed("hang", f"no answer from the model's process in {timeout_s:g} s") from None
        finally:
            child.kill()  # harmless when it has ended
            child.communicate()
        if child.returncode != 0:
            raise ChildFailed("crash", f"the model's process {_death(child.returncode)}{_tail(stderr)}")
    try:
        parsed = json.loads(answer)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ChildFailed("no-answer", f"the model's process answered {answer[:80]!r}")
    if "failed" in parsed:
        raise ChildFailed(parsed["failed"], parsed["detail"])
    return parsed


def _death(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _tail(stderr: Any) -> str:
    stderr.seek(0, 2)
    stderr.seek(max(0, stderr.tell() - STDERR_TAIL))
    text = " ".join(stderr.read().decode(errors="replace").split())
    return f": {text}" if text else ""
