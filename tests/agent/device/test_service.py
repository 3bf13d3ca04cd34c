from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.device.service import BEATS, SOCKET, WATCHDOG, WATCHDOG_PID, Service


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(manager.recv(4096).decode())
        except BlockingIOError:
            return lines


def of(manager: socket.socket, **more: str) -> Service:
    return Service.of({SOCKET: manager.getsockname(), **more}, pid=7)


def test_a_manager_hears_of_start_status_and_stop(manager: socket.socket) -> None:
    service = of(manager)
    service.ready()
    service.says("digits 3\nis served")
    service.says("digits 3\nis served")
    service.stopping()
    assert heard(manager) == ["READY=1", "STATUS=digits 3 is served", "STOPPING=1"]


def test_signs_of_life_come_three_in_an_interval(manager: socket.socket) -> None:
    service = of(manager, **{WATCHDOG: "30000000", WATCHDOG_PID: "7"})
    assert service.interval_s == 30 / BEATS
    for now_s in range(100, 130):
        service.alive(float(now_s))
    assert heard(manager) == ["WATCHDOG=1"] * BEATS


@pytest.mark.parametrize(
    "more", [{}, {WATCHDOG: "0"}, {WATCHDOG: "soon"}, {WATCHDOG: "1", WATCHDOG_PID: "8"}]
)
def test_a_watchdog_that_is_not_set_or_not_ours_hears_nothing(
    manager: socket.socket, more: dict[str, str]
) -> None:
    of(manager, **more).alive(0.0)
    assert heard(manager) == []


def test_an_abstract_socket_is_reached() -> None:
    name = f"edgefleet-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        Service.of({SOCKET: "@" + name}, 1).ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {SOCKET: ""}, {SOCKET: "vsock:2:1"}])
def test_without_a_manager_nothing_is_said(environment: dict[str, str]) -> None:
    assert Service.of(environment, 1) == Service()
    Service.of(environment, 1).ready()


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Service(str(tmp_path / "gone")).ready()
    assert "service manager not told" in caplog.text


def test_children_do_not_inherit_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SOCKET, str(tmp_path / "notify"))
    monkeypatch.setenv(WATCHDOG, "3000000")
    assert Service.here() == Service(str(tmp_path / "notify"), 1.0)
    assert SOCKET not in os.environ
    assert WATCHDOG not in os.environ
