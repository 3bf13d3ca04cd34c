"""A broker process kept running: started, watched, restarted with a growing delay, never left behind.

One thread forks, waits and restarts: Linux kills the child when the *thread* that forked it ends, so
it must be one that lives as long as the child should (see `tether.py`).
"""

from __future__ import annotations

import logging
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from edge_fleet.brokers import tether
from edge_fleet.config import Address
from edge_fleet.errors import AddressInUse, BrokerFailed

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 10.0
STABLE_S = 10.0  # a child that ran this long starts again at once
STOP_TIMEOUT_S = 5.0
# one line per refused login: a stranger can fill a disk, so it rotates
LOG_BYTES, LOG_FILES = 2 << 20, 2
MOST_CONNECTIONS, OTHER_FILES = 100_000, 64
OWN_PORTS = range(20_000, 32_768)


class Child:
    """One supervised process.

    Args:
        name: For messages.
        command: Called before every start, so that a start can prepare the folder.
        listens: Where it must accept connections before it counts as started.
        log_path: Gets its output, rotated.
        exited: Called when it ended without being asked to.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        listens: Sequence[Address],
        log_path: Path,
        exited: Callable[[], None] = lambda: None,
    ) -> None:
        """Describe the process; `start` runs it."""
        self._name, self._command, self._listens = name, command, listens
        self._log_path, self._exited = log_path, exited
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._first = threading.Event()
        self._down_until = 0.0  # monotonic
        self._last_words = ""
        self._thread: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Run it, and come back when it accepts connections.

        Raises:
            AddressInUse: Somebody else listens there.
            BrokerFailed: It ended, or does not listen in time; its last words are in the message.
        """
        for address in self._listens:
            require_free(address, self._name)
        self._thread = threading.Thread(target=self._supervise, name=f"{self._name}-child", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(map(_accepts, self._listens)):
            if self._first.is_set() or time.monotonic() > deadline:
                self.stop()
                raise BrokerFailed(f"{self._name} does not start: {self._last_words or 'it does not listen'}")
            time.sleep(0.01)
        self._first.set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def kill(self, down_s: float = 0.0) -> None:
        """Kill it; it comes back after `down_s`."""
        self._down_until = time.monotonic() + down_s
        self.signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it for good."""
        self._stopping.set()
        self.signal(signal.SIGTERM)
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
            if self._thread.is_alive():
                self.signal(signal.SIGKILL)
                self._thread.join()

    def _supervise(self) -> None:
        delay = FIRST_DELAY_S
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                return
            if not self._first.is_set():  # it never came up: `start` reports it
                self._first.set()
                return
            log.warning("broker ended", extra={"broker": self._name, "code": code})
            self._exited()
            delay = FIRST_DELAY_S if time.monotonic() - began > STABLE_S else min(delay * 2, LONGEST_DELAY_S)
            self._stopping.wait(max(delay, self._down_until - time.monotonic()))

    def _run_once(self) -> int:
        command = list(self._command())
        with self._lock:
            if self._stopping.is_set():
                return 0
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the server, which then stops the broker in order
            )
            process = self._process
        assert process.stdout is not None
        with process.stdout as output:
            self._keep(output)
        return process.wait()

    def _keep(self, output: IO[bytes]) -> None:
        """Copy its output into the log until it ends."""
        keeper = RotatingFileHandler(self._log_path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1)
        try:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                if text:
                    self._last_words = text[-300:]
                keeper.emit(logging.makeLogRecord({"msg": text}))
        finally:
            keeper.close()


class ManagedBroker:
    """What every broker that runs as a child does alike: `nats.py` and `mosquitto.py` add the rest."""

    managed = keeps_accounts = True

    def __init__(self, child: Child) -> None:
        """Take the process to look after."""
        self._child = child

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._child.pid

    def outage(self, seconds: float) -> None:
        """Kill it and keep it down."""
        self._child.kill(seconds)

    def restart(self) -> None:
        """Kill it; it comes back with nothing of what it had stored."""
        self._child.kill()

    def stop(self) -> None:
        """End it."""
        self._child.stop()


def require_free(address: Address, what: str) -> None:
    """Check that nobody listens at an address.

    Raises:
        AddressInUse: Somebody does, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address.host, address.port))
        except OSError as error:
            raise AddressInUse(f"{what} cannot listen at {address}: {error.strerror or error}") from None


def most_connections() -> int:
    """Of devices with a broker: fewer than the files it may open, so that they cannot shut the server out."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, files - OTHER_FILES))


def free_loopback_port() -> int:
    """A port of 127.0.0.1 that nobody holds now.

    Below those that Linux gives outgoing connections by itself: such a one could be taken before it is used.
    """
    for port in random.SystemRandom().sample(OWN_PORTS, 100):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _accepts(address: Address) -> bool:
    try:
        socket.create_connection((address.reachable_host, address.port), 0.5).close()
    except OSError:
        return False
    return True
