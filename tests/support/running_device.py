"""The daemon as a process of its own, enrolled in a tiny fleet. No tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from agent_bundles import build
from agent_fleet import TOKEN, TinyFleet, until

from edge_contracts.bundle import open_bundle

AGENT = [sys.executable, "-c", "from edge_agent.cli import main; main()"]


def command(*arguments: str, home: Path, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """One command of the agent, to its end."""
    return subprocess.run(
        [*prefix, *AGENT, *arguments, "--home", str(home)], capture_output=True, text=True, timeout=60
    )


class Device:
    """One agent: its home, its inputs, and its process while it runs.

    Args:
        home: Another place for it; commands that see it begin with `prefix`.
    """

    def __init__(self, folder: Path, home: Path | None = None, prefix: Sequence[str] = ()) -> None:
        """Lay out its folders."""
        self.home, self.prefix = home or folder / "device", prefix
        self.inputs = folder / "inputs"
        self.log = folder / "agent.log"
        self.answers = folder / "answers.jsonl"
        self.inputs.mkdir()
        x = np.random.default_rng(3).uniform(-2, 2, (200, 4)).astype(np.float32)
        np.savez(self.inputs / "x.npz", x=x)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str, environment: Mapping[str, str] = {}) -> None:
        """Run it."""
        # by `env`: the prefix is a program of its own, and nothing is to be preloaded into that
        run = [
            *self.prefix,
            "env",
            *(f"{name}={value}" for name, value in environment.items()),
            *AGENT,
            "run",
            "--home",
            str(self.home),
            "--input",
            str(self.inputs),
            "--loop",
            "--rate",
            "100",
        ]
        run += ["--window", "0.5", "--hello", "1", "--health-window", "0.5", "--health-inferences", "5"]
        with self.log.open("ab") as log:
            run += ["--answers", str(self.answers), *more]
            self.process = subprocess.Popen(run, stderr=log)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; its exit code."""
        assert self.process is not None
        os.kill(self.process.pid, how)
        code = self.process.wait(20)
        self.process = None
        return code

    def answered(self) -> int:
        """How many inputs it has answered."""
        return self.answers.read_bytes().count(b"\n") if self.answers.exists() else 0

    def status(self) -> dict[str, Any]:
        """What `edge-agent status --json` says."""
        found: dict[str, Any] = json.loads(self.asked("status", "--json"))
        return found

    def asked(self, *arguments: str) -> str:
        """What a command says."""
        return command(*arguments, home=self.home, prefix=self.prefix).stdout


@contextmanager
def enrolled(
    folder: Path, fleet: TinyFleet, home: Path | None = None, prefix: Sequence[str] = ()
) -> Iterator[Device]:
    """A device of the fleet that does not run yet; it is killed at the end if it does."""
    made = Device(folder, home, prefix)
    arguments = ("--server", fleet.url, "--token", TOKEN, "--profile", "x86-cpu", "--name", "cam-1")
    done = command("enroll", *arguments, home=made.home, prefix=prefix)
    assert done.returncode == 0, done.stderr
    try:
        yield made
    finally:
        if made.process is not None:
            made.end(signal.SIGKILL)


def release(fleet: TinyFleet, version: str, number: int, counter: int, **fields: Any) -> str:
    """Assign a new good bundle; its digest."""
    archive = build("float32", key=fleet.publisher, version=version, **fields)
    digest = open_bundle(archive).digest
    fleet.assign(archive, digest, number, counter)
    return digest


def confirmed(fleet: TinyFleet, number: int) -> None:
    """Wait until the device has confirmed an assignment."""
    until(lambda: fleet.progress(number) == "confirmed", f"assignment {number} is confirmed")
