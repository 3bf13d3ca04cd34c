"""Places and turns are those of whom a client cannot choose to be: its user, its address, its broker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_bundles import GOLDEN_X
from agent_fleet import until
from agent_serving import ASK, INFER, Served, served
from local_brokers import App, door, mosquitto
from paho.mqtt.enums import MQTTProtocolVersion

from edge_agent.doubt.lineup import Lineup, Settled
from edge_agent.inference.request import Request
from edge_agent.inference.request_queue import QueueLimits
from edge_agent.inference.serving import Serving

PLACES = 16
BODY = json.dumps(ASK)

# as many connections as asked for, each with a name of its own; says what became of each of them
CLIENTS = """
import os, socket, sys
user, path, count, name, body, where = sys.argv[1:]
os.setuid(int(user))  # only now: a Python may lie where others cannot read it
asked = []
for number in range(int(count)):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    head = f"POST {where} HTTP/1.1\\r\\nHost: e\\r\\nEdge-Client: {name}{number}\\r\\nConnection: close\\r\\n"
    client.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    asked.append(client)
for client in asked:
    print(client.recv(65536).split(b" ")[1].decode())
"""


class Recorded(Lineup):
    """Remembers whose requests were answered, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts: list[str] = []

    def answer(self, serving: Serving, request: Request) -> Settled:
        self.accounts.append(request.account)
        return super().answer(serving, request)


@contextmanager
def held(folder: Path) -> Iterator[tuple[Served, Recorded, threading.Event]]:
    """A served model whose thread is kept busy until the event: what comes waits."""
    order, blocked, go_on = Recorded(), threading.Event(), threading.Event()

    def block(_future: object) -> None:  # runs in the inference thread
        blocked.set()
        go_on.wait(30)

    with served(folder, queue=QueueLimits(requests=PLACES), lineup=order) as up:
        try:
            up.engine.submit(Request({"x": GOLDEN_X})).add_done_callback(block)
            assert blocked.wait(10)
            order.accounts.clear()
            yield up, order, go_on
        finally:
            go_on.set()


def waiting(up: Served, count: int) -> None:
    until(lambda: up.engine.waiting == count, f"{count} requests wait")


def begun(up: Served, source: str, name: str) -> socket.socket:
    """A request by TCP from an address of this machine; its answer is not waited for."""
    client = socket.create_connection((up.host, up.port), 20, (source, 0))
    head = f"POST {INFER} HTTP/1.1\r\nHost: e\r\nEdge-Client: {name}\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {up.token}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    client.sendall((head + BODY).encode())
    return client


def status(client: socket.socket) -> int:
    with client:
        return int(client.recv(65536).split(b" ")[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two other users to run clients as")
def test_a_user_with_forty_names_has_half_the_places_and_every_other_turn() -> None:
    place = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        place.chmod(0o755)
        with held(place) as (up, order, go_on):
            up.path.chmod(0o666)

            def clients(user: int, count: int, name: str) -> subprocess.Popen[str]:
                words = [str(user), str(up.path), str(count), name, BODY, INFER]
                command = [sys.executable, "-c", CLIENTS, *words]
                return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

            greedy = clients(65534, 40, "n")
            waiting(up, PLACES // 2)
            modest = clients(1, 3, "app")
            waiting(up, PLACES // 2 + 3)
            go_on.set()
            told, others = (
                greedy.communicate(timeout=30)[0].split(),
                modest.communicate(timeout=30)[0].split(),
            )
    finally:
        shutil.rmtree(place)
    assert (told.count("200"), told.count("503"), others) == (PLACES // 2, 40 - PLACES // 2, ["200"] * 3)
    assert order.accounts[:6] == ["user 65534", "user 1"] * 3


def test_an_address_with_forty_names_has_half_the_places_and_every_other_turn(tmp_path: Path) -> None:
    with held(tmp_path) as (up, order, go_on):
        greedy = [begun(up, "127.0.0.1", f"n{number}") for number in range(40)]
        waiting(up, PLACES // 2)
        modest = [begun(up, "127.0.0.2", "app") for _ in range(3)]
        waiting(up, PLACES // 2 + 3)
        go_on.set()
        assert [status(one) for one in modest] == [200] * 3
        told = [status(one) for one in greedy]
    assert (told.count(200), told.count(503)) == (PLACES // 2, 40 - PLACES // 2)
    assert order.accounts[:6] == ["127.0.0.1", "127.0.0.2"] * 3


def test_a_broker_does_not_vouch_for_names_and_is_one_account(tmp_path: Path) -> None:
    with held(tmp_path) as (up, order, go_on), mosquitto(tmp_path) as place, door(place, up):
        app = App(place, MQTTProtocolVersion.MQTTv5, "app/answers")
        for number in range(40):
            app.ask(BODY.encode(), ResponseTopic="app/answers", UserProperty=[("Edge-Client", f"n{number}")])
        refused: list[Any] = [app.reply()[0] for _ in range(40 - PLACES // 2)]
        assert {one["code"] for one in refused} == {"queue-full"}
        modest = [begun(up, "127.0.0.1", "app") for _ in range(3)]
        waiting(up, PLACES // 2 + 3)
        go_on.set()
        assert [status(one) for one in modest] == [200] * 3
        assert all("outputs" in app.reply()[0] for _ in range(PLACES // 2))
        app.close()
    assert order.accounts[:6] == ["mqtt", "127.0.0.1"] * 3
