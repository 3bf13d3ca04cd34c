"""The parts of the demonstration: the real commands, started, asked and stopped as a person would.

The converter and the agents are other programs to the server, so they are run and never imported.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RATE = 25  # pictures a second and device: 6 devices leave half of two cores free
WINDOW_S, HELLO_S, HEALTH_S = 2, 3, 3
PIDS = "pids.json"


class StepFailed(Exception):
    """A command did not do what it should; the message is its last words."""


@dataclass
class Device:
    """One agent of the demonstration."""

    id: str
    home: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


class Parts:
    """The processes and files of one run.

    Args:
        folder: Made anew; everything lies in it.
        example: Folder with the models and data of the story.
    """

    def __init__(self, folder: Path, example: Path) -> None:
        """Clear the folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.example = folder.absolute(), example.absolute()
        self.server: subprocess.Popen[bytes] | None = None
        self.url = ""
        self._devices: list[Device] = []
        stream = self.folder / "stream"
        stream.mkdir()
        shutil.copy(self.example / "live.npz", stream / "live.npz")

    def keygen(self) -> None:
        """A publisher's keys."""
        self._command("edge-convert", "keygen", "--output", self.folder / "keys")

    def build(self, version: str, profiles: Sequence[str], suffix: str) -> list[dict[str, str]]:
        """Convert one version for every profile.

        Returns:
            For each bundle its profile, its digest and the precision of its first artifact.
        """
        output = self.folder / "bundles" / version
        self._command(
            "edge-convert", "build", self.example / f"digits-{version}.onnx",
            *(word for profile in profiles for word in ("--profile", profile)),
            "--name", "digits", "--version", f"{version}.0.0",
            "--calibration", self.example / f"calibration{suffix}.npz",
            "--evaluation", self.example / f"evaluation{suffix}.npz",
            "--sign-key", self.folder / "keys" / "private.pem", "--output", output,
        )  # fmt: skip
        found = []
        for path in sorted(output.glob("*.bundle")):
            told = json.loads(
                self._command("edge-convert", "verify", path, "--trust", self._public_key, "--json")
            )
            manifest = told["manifest"]
            found.append(
                {
                    "profile": manifest["profile"],
                    "digest": told["digest"],
                    "precision": manifest["artifacts"][0]["precision"],
                }
            )
        return found

    def serve(self) -> None:
        """Start the server and wait until it answers; trust the publisher."""
        http, mqtt = _free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        self.server = self._spawn(
            "server", "edge-fleet", "serve", "--home", self._server_home,
            "--http", f"127.0.0.1:{http}", "--mqtt", f"127.0.0.1:{mqtt}", "--fleet", "demo",
        )  # fmt: skip
        if not self.until(lambda: (self._server_home / "server.json").exists(), 60):
            raise StepFailed(f"the server did not start: {self._last_words('server')}")
        self._fleet("trust", "add", self._public_key)

    def publish(self, version: str) -> None:
        """Publish the bundles of a version."""
        self._fleet("release", "publish", *sorted((self.folder / "bundles" / version).glob("*.bundle")))

    def enrol(self, name: str, profile: str) -> Device:
        """Enrol a device with a token of its own."""
        token = str(json.loads(self._fleet("token", "create", "--json"))["token"])
        device = Device(name, self.folder / "devices" / name)
        self._command(
            "edge-agent", "enroll", "--server", self.url, "--token", token,
            "--profile", profile, "--name", name, "--home", device.home,
        )  # fmt: skip
        self._devices.append(device)
        return device

    def run(self, device: Device) -> None:
        """Start a device's daemon."""
        device.process = self._spawn(
            f"device-{device.id}", "edge-agent", "run", "--home", device.home,
            "--input", self.folder / "stream", "--loop", "--rate", str(RATE),
            "--window", str(WINDOW_S), "--hello", str(HELLO_S), "--health-window", str(HEALTH_S),
        )  # fmt: skip

    def kill(self, device: Device) -> None:
        """SIGKILL: no last words, no tidying up."""
        if device.process is not None:
            device.process.kill()
            device.process.wait()

    def stop(self, device: Device) -> None:
        """SIGTERM, as a service manager does."""
        _terminate(device.process)
        device.process = None

    def kill_broker(self, seconds: float) -> None:
        """SIGKILL the broker and keep it away for so long: the operator's own command for rehearsals."""
        self._fleet("broker", "outage", "--seconds", str(seconds))

    def create_rollout(self, release: str, stages: str, bake_s: float, gates: Sequence[str]) -> str:
        """Make and start a rollout; gives its id."""
        chosen = [word for gate in gates for word in ("--gate", gate)]
        made = self._get(
            "rollout", "create", "--release", release, "--stages", stages, "--bake", str(bake_s),
            "--quorum", "1", "--start", *chosen,
        )  # fmt: skip
        return str(made["id"])

    def rollout(self, rollout: str) -> dict[str, Any]:
        """One rollout as the server shows it."""
        return dict(self._get("rollout", "show", rollout))

    def devices(self) -> list[dict[str, Any]]:
        """Every device as the server shows it."""
        return list(self._get("devices"))

    def telemetry(self) -> list[dict[str, Any]]:
        """Every verified envelope that the server has stored."""
        lines = self._fleet("telemetry", "tail", "--no-follow", "--json").splitlines()
        return [json.loads(line) for line in lines]

    def outbox(self, device: Device) -> dict[str, Any]:
        """What the device itself knows of its numbering: epoch, next_seq, waiting."""
        told = json.loads(self._command("edge-agent", "status", "--home", device.home, "--json"))
        return dict(told["outbox"])

    def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something holds; False when it did not in time."""
        end = time.monotonic() + timeout_s
        while not (held := holds()) and time.monotonic() < end:
            if self.server is not None and self.server.poll() is not None:
                raise StepFailed(f"the server ended: {self._last_words('server')}")
            time.sleep(0.5)
        return held

    def stop_all(self) -> None:
        """Stop everything that runs."""
        for device in self._devices:
            self.stop(device)
        _terminate(self.server)
        (self.folder / PIDS).unlink(missing_ok=True)

    def left_running(self) -> str:
        """What a person needs to know of what stays up."""
        token = (self._server_home / "admin.token").read_text().strip()
        return (
            f"\nThe console:  {self.url}\nIts token:    {token}\n"
            f"The fleet:    edge-fleet rollout list --home {self._server_home}\n"
            "To stop it:   edge-fleet demo --stop"
        )

    @staticmethod
    def stop_left_over(folder: Path) -> None:
        """Stop what an earlier run has left running in this folder."""
        path = folder / PIDS
        if not path.exists():
            return
        for pid, command in json.loads(path.read_text()).items():
            # a number may have been given to another program since
            if command in _command_line(int(pid)):
                os.kill(int(pid), signal.SIGTERM)
        end = time.monotonic() + 30
        while time.monotonic() < end and any(
            command in _command_line(int(pid)) for pid, command in json.loads(path.read_text()).items()
        ):
            time.sleep(0.2)
        path.unlink()

    @property
    def _server_home(self) -> Path:
        return self.folder / "server"

    @property
    def _public_key(self) -> Path:
        return self.folder / "keys" / "public.pem"

    def _fleet(self, *words: str | Path) -> str:
        return self._command("edge-fleet", *words, "--home", self._server_home)

    def _get(self, *words: str) -> Any:
        return json.loads(self._fleet(*words, "--json"))

    def _command(self, program: str, *words: str | Path) -> str:
        done = subprocess.run(
            [_program(program), *map(str, words)], capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise StepFailed(
                f"{program} {words[0]}: exit {done.returncode}, {said[-1] if said else 'silent'}"
            )
        return done.stdout

    def _spawn(self, name: str, program: str, *words: str | Path) -> subprocess.Popen[bytes]:
        command = [_program(program), *map(str, words)]
        # a session of its own: what is kept must outlive the terminal
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        path = self.folder / PIDS
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {str(process.pid): program}))
        return process

    def _last_words(self, name: str) -> str:
        lines = (self.folder / f"{name}.log").read_text().strip().splitlines()
        return lines[-1] if lines else "silent"


def _program(name: str) -> str:
    """One of our commands, from the environment that this one runs in."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        extra = {"edge-convert": "converter", "edge-agent": "agent"}.get(name, "server")
        raise StepFailed(f"{name} is not installed here; pip install 'edgefleet[{extra}]'")
    return str(path)


def _terminate(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command_line(pid: int) -> str:
    """What a process was started with, "" when there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return [int(port) for port in ports]
