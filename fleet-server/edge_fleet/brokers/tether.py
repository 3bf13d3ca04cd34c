"""Run a program that cannot outlive the process that started it.

    python tether.py PARENT_PID PROGRAM ARGUMENT...

A program of its own and not a `preexec_fn`: Python code between fork and exec can deadlock in a process
with threads. Linux only; elsewhere the program just runs. Imports nothing of ours, to start fast.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(arguments: list[str]) -> None:
    """Ask to be killed with our parent and for all files that we may open, then become the program."""
    parent, program = int(arguments[0]), arguments[1:]
    # a broker has a file for each device, and what a shell allows is 1,024
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
