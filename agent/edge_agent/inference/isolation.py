"""Processes for models, so that a file or a driver which kills its runtime kills only that.

The child is `child.py`; jobs are small JSON objects on its stdin. `run_child` waits for the one answer
of a job, `start` leaves the child running for whoever talks to it by a socket (`guard/isolated.py`).
Here is what both need: starting one, ending one for sure, and telling why it died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from edge_agent.errors import ChildFailed

COMMAND = (
    sys.executable,
    "-P",
    "-m",
    "edge_agent.inference.child",
)  # -P: nothing is imported from the working folder
STDERR_TAIL = 300  # characters of what the child printed that are worth repeating
KILL_S = 2.0  # a process that does not die of SIGKILL by then is stuck in a driver


class Child:
    """A process that was started here, with what it printed on stderr."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> None:
        """Take a process that runs; `start` is how to get one."""
        self._process, self._stderr = process, stderr

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def memory_bytes(self) -> int:
        """Resident memory now; 0 when it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def communicate(self, job: bytes, timeout_s: float) -> bytes:
        """Give it its job and take all that it answers; subprocess.TimeoutExpired when it takes longer."""
        answer, _ = self._process.communicate(job, timeout_s)
        return answer

    def give(self, job: bytes) -> None:
        """Give it its job; whether it takes it shows in what it answers."""
        stdin = self._process.stdin
        if stdin is None:
            raise AssertionError("a child is started with a pipe to its stdin")
        with contextlib.suppress(BrokenPipeError):
            stdin.write(job)
        with contextlib.suppress(BrokenPipeError):
            stdin.close()

    def wait(self, timeout_s: float) -> bool:
        """Give it time to end by itself; whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

    def end(self, wait_s: float = KILL_S) -> bool:
        """Kill it; harmless when it has ended. Whether it is gone: one that is stuck in a driver stays."""
        self._process.kill()
        gone = self.wait(wait_s)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if not gone:
            _LINGERING.append(self._process)
        return gone

    def death(self) -> str:
        """How it ended, with the last that it said; for one that has ended."""
        return f"the model's process {_death(self._process.returncode)}{self._tail()}"

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than well."""
        return self._process.returncode != 0

    def close(self) -> None:
        """Let go of what it said."""
        self._stderr.close()

    def _tail(self) -> str:
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - STDERR_TAIL))
        text = " ".join(self._stderr.read().decode(errors="replace").split())
        return f": {text}" if text else ""


_LINGERING: list[subprocess.Popen[bytes]] = []  # killed and not gone: collected when they are


def _new_starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "child-starter")


# A child asks the kernel to end it with its parent, and that means the *thread* that started it
# (prctl(2), PR_SET_PDEATHSIG): so all are started by one that lives as long as the process.
_STARTER = [_new_starter()]
os.register_at_fork(after_in_child=lambda: _STARTER.__setitem__(0, _new_starter()))


def start(command: Sequence[str] = COMMAND, handles: tuple[int, ...] = (), answers: bool = True) -> Child:
    """Start a child that waits for its job.

    Args:
        handles: File descriptors that it inherits.
        answers: Whether its stdout is read here.

    Raises:
        ChildFailed: "no-process": the system has no memory or no place for one.
    """
    _LINGERING[:] = [process for process in _LINGERING if process.poll() is None]
    stderr = _stderr_file()
    try:
        process = _STARTER[0].submit(_popen, command, stderr, handles, answers).result()
    except OSError as error:
        stderr.close()
        raise ChildFailed("no-process", f"no process for the model: {error.strerror}") from None
    return Child(process, stderr)


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
    child = start(command)
    try:
        try:
            answer = child.communicate(encoded(job, timeout_s), timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed("hang", f"no answer from the model's process in {timeout_s:g} s") from None
        finally:
            child.end()
        if child.failed:
            raise ChildFailed("crash", child.death())
    finally:
        child.close()
    try:
        parsed = json.loads(answer)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ChildFailed("no-answer", f"the model's process answered {answer[:80]!r}")
    if "failed" in parsed:
        raise ChildFailed(parsed["failed"], parsed["detail"])
    return parsed


def encoded(job: Mapping[str, Any], timeout_s: float = 0.0) -> bytes:
    """A job as the child reads it.

    Args:
        timeout_s: It ends itself soon after so long; 0 for one that stays.
    """
    return json.dumps({"timeout_s": timeout_s, "parent": os.getpid(), **job}).encode()


def _popen(
    command: Sequence[str], stderr: IO[bytes], handles: tuple[int, ...], answers: bool
) -> subprocess.Popen[bytes]:
    stdout = subprocess.PIPE if answers else subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, pass_fds=handles)


def _stderr_file() -> IO[bytes]:
    """A file without a name for what a child says; in memory where that can be: the disk may be full."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("edge-agent-stderr", os.MFD_CLOEXEC)
        # appended to, so that the child can cut it and what follows begins at its start
        fcntl.fcntl(handle, fcntl.F_SETFL, os.O_APPEND)
        return os.fdopen(handle, "r+b", 0)
    return tempfile.TemporaryFile()


def _death(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
