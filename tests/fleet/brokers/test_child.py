"""What keeps a broker running that is the server's child, and ends it with the server."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet_device import eventually, require_broker
from running_broker import ACCOUNTS, D1, KINDS, Running

from edge_fleet.brokers import tether
from edge_fleet.brokers.child import free_loopback_port, most_connections
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import Address
from edge_fleet.errors import AddressInUse, BrokerFailed


def test_a_broker_that_is_killed_comes_back_empty_and_the_link_with_it(running: Running) -> None:
    with running.client(D1) as d1:
        d1.client.publish("edge/v1/f/d1/hello", b"kept?", qos=1, retain=True).wait_for_publish(5)
    before = running.broker.pid
    assert before is not None
    running.probe()  # the message itself has come through: what is heard from here on was kept
    running.heard.clear()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not running.link.is_up, "the end of the link")
    eventually(lambda: running.link.is_up, "the link")
    assert running.broker.pid not in (None, before)
    running.probe()
    assert running.heard == []


def test_an_outage_keeps_it_down_for_its_time(running: Running) -> None:
    began = time.monotonic()
    running.broker.outage(1.5)
    eventually(lambda: not running.link.is_up, "its end")
    eventually(lambda: running.link.is_up, "its return")
    assert time.monotonic() - began >= 1.5
    running.probe()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, kind: str) -> None:
    require_broker(kind)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = Address("127.0.0.1", holder.getsockname()[1])
        broker = KINDS[kind](tmp_path, address, None, lambda: None)
        with pytest.raises(AddressInUse, match=f"cannot listen at {address}: Address already in use"):
            broker.start(ACCOUNTS)
        assert broker.pid is None


def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    broker = NatsBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    (tmp_path / "store").symlink_to("/dev/null")  # cannot be made a folder
    with pytest.raises(BrokerFailed, match=r"nats-server does not start: .+"):
        broker.start(ACCOUNTS)
    assert broker.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_tethered_program_dies_with_the_one_who_started_it() -> None:
    script = (
        "import subprocess, sys, os, time\n"
        f"command = [sys.executable, {tether.__file__!r}, str(os.getpid()), '/bin/sleep', '600']\n"
        "child = subprocess.Popen(command)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually(lambda: _command(child).startswith("/bin/sleep"), "the program")
        parent.kill()
    eventually(lambda: not _command(child), "the end of the program")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def test_a_broker_may_open_all_files_that_the_system_allows_and_devices_fewer() -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    few = ["/bin/sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh"]
    program = [sys.executable, tether.__file__, str(os.getpid()), sys.executable, "-c", script]
    may_open = int(subprocess.run([*few, *program], capture_output=True, text=True, check=True).stdout)
    assert may_open == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # the server's own connections are beside those of devices
    assert 0 < most_connections() <= may_open - 40
