"""Connections are the accounts': who opens all of them gives some up for others, and nobody else does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_serving import Served, served
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.inference.request import Caller, Payer
from edge_agent.serving.connections import Connection, Connections, Phase
from edge_agent.serving.listener import LEAVING, ListenerLimits

LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n\r\n"
PLACES = 6


def caller(account: str) -> Caller:
    return Caller(account, Payer(account))


class Pairs:
    """Connections of both ends, as the door has them."""

    def __init__(self, places: int) -> None:
        self.connections = Connections(places)
        self.clients: dict[Connection, socket.socket] = {}

    def come(self, account: str) -> Connection | None:
        ours, theirs = socket.socketpair()
        connection = self.connections.admit(ours, caller(account))
        if connection is None:
            ours.close()
            theirs.close()
        else:
            self.clients[connection] = theirs
        return connection

    def placed(self, account: str) -> Connection:
        connection = self.come(account)
        assert connection is not None
        return connection

    def end(self) -> None:
        for connection, client in self.clients.items():
            self.connections.close(connection)
            client.close()


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    made = Pairs(4)
    yield made
    made.end()


def told_to_end(connection: Connection) -> bool:
    """Whether the thread of a connection sees the end of what its client sends."""
    connection.sock.setblocking(False)
    try:
        return connection.sock.recv(1) == b""
    except BlockingIOError:
        return False


def test_one_account_may_have_every_place_and_is_refused_one_more(pairs: Pairs) -> None:
    held = [pairs.placed("a") for _ in range(4)]
    assert pairs.come("a") is None
    assert not any(told_to_end(one) for one in held)
    assert pairs.connections.held_by("a") == 4


def test_who_comes_gets_the_place_that_waited_longest_of_who_holds_most(pairs: Pairs) -> None:
    first, second, *_ = [pairs.placed("a") for _ in range(4)]
    first.enter(Phase.RECEIVING)  # it has just been answered: the second waits longer now
    pairs.placed("b")
    assert told_to_end(second)
    assert not told_to_end(first)
    assert (pairs.connections.held_by("a"), pairs.connections.held_by("b")) == (3, 1)


def test_the_one_who_holds_most_gives_up_although_another_waited_longer(pairs: Pairs) -> None:
    older = [pairs.placed("a") for _ in range(2)]
    pairs.connections.places += 1
    most = [pairs.placed("b") for _ in range(3)]
    pairs.placed("c")
    assert told_to_end(most[0])
    assert not any(told_to_end(one) for one in older)


def test_nobody_gives_up_a_place_for_an_account_that_has_as_many(pairs: Pairs) -> None:
    for account in ("a", "a", "b", "b"):
        pairs.placed(account)
    assert pairs.come("b") is None
    assert pairs.come("c") is not None  # it would have one, who gives up one
    assert pairs.come("c") is None


def test_what_is_being_answered_is_never_given_up_and_what_is_sent_only_last(pairs: Pairs) -> None:
    held = [pairs.placed("a") for _ in range(4)]
    for connection in held[:3]:
        connection.enter(Phase.ANSWERING)
    held[3].enter(Phase.SENDING)
    held[2].enter(Phase.RECEIVING)
    pairs.placed("b")
    assert told_to_end(held[2])
    pairs.placed("c")
    with pytest.raises(BrokenPipeError):  # it does not go on sending to somebody who does not read
        held[3].sock.sendall(b"the rest of an answer")
    assert pairs.come("d") is None


def test_what_is_answered_just_when_its_place_is_given_up_still_goes_out(pairs: Pairs) -> None:
    held = [pairs.placed("a") for _ in range(4)]
    pairs.placed("b")
    held[0].sock.sendall(b"an answer")
    assert pairs.clients[held[0]].recv(100) == b"an answer"


def test_a_place_that_was_given_up_is_not_free_twice(pairs: Pairs) -> None:
    held = [pairs.placed("a") for _ in range(4)]
    pairs.placed("b")
    pairs.connections.close(held[0])
    pairs.clients.pop(held[0]).close()
    assert pairs.come("a") is None
    assert len(pairs.connections.hang_up()) == 4


ACCOUNTS = "abc"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from(ACCOUNTS)),
        st.tuples(st.just("leave"), st.integers(0, PLACES)),
        st.tuples(st.sampled_from(list(Phase)), st.integers(0, PLACES)),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_nobody_is_shut_out_by_another(steps: list[tuple[str | Phase, str | int]]) -> None:
    pairs, here = Pairs(PLACES), list[Connection]()
    try:
        for what, which in steps:
            if what == "come":
                account = str(which)
                before = Counter(one.caller.payer.account for one in here)
                busy = Counter(one.caller.payer.account for one in here if one.phase is Phase.ANSWERING)
                got = pairs.come(account)
                # a place is refused only when nobody else has more than a fair part of them
                richer = [a for a in ACCOUNTS if before[a] > before[account] + 1 and before[a] > busy[a]]
                assert (got is not None) == (len(here) < PLACES or bool(richer))
                if got is not None:
                    if len(here) == PLACES:
                        here = [one for one in here if not (one is not got and told_to_end(one))]
                        after = Counter(one.caller.payer.account for one in here)
                        [gave] = (before - after).keys()
                        assert before[gave] == max(before[a] for a in richer)
                    here.append(got)
            elif here:
                one = here[int(which) % len(here)]
                if isinstance(what, Phase):
                    one.enter(what)
                else:
                    here.remove(one)
                    pairs.connections.close(one)
            assert len(here) <= PLACES
            assert sum(pairs.connections.held_by(a) for a in ACCOUNTS) == len(here)
    finally:
        pairs.end()


# opens so many connections as a user, says when all are there, and holds them until its input ends
HOLDING = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
held = []
for number in range(int(sys.argv[3])):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[2])
    client.sendall(b"GET /v2/health/live HTTP/1.1\\r\\nHost: e\\r\\n\\r\\n")
    client.recv(1000)
    held.append(client)
print("held", flush=True)
sys.stdin.read()
"""


def connected(up: Served) -> socket.socket:
    """A client of the socket."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(up.path))
    return client


def live(up: Served) -> bytes:
    """What this process is told at the socket."""
    with connected(up) as client:
        client.sendall(LIVE)
        return client.recv(1000)


def test_who_is_turned_away_may_say_all_of_its_request_and_reads_why(tmp_path: Path) -> None:
    with served(tmp_path, ListenerLimits(connections=1)) as up, connected(up) as holding:
        holding.sendall(LIVE)
        assert holding.recv(1000).startswith(b"HTTP/1.1 200 OK")
        clients = [connected(up) for _ in range(LEAVING + 1)]
        for client in clients:
            assert b"503" in client.recv(1000)  # it was turned away before it said a word
        for client in clients[1:]:
            client.sendall(LIVE)
        with pytest.raises(BrokenPipeError):  # so many are kept, and no more
            clients[0].sendall(LIVE)
        for client in clients:
            client.close()


@pytest.mark.skipif(os.getuid() != 0, reason="connects as another user, which only root can become")
def test_a_user_who_holds_every_connection_does_not_shut_another_out() -> None:
    folder = Path(tempfile.mkdtemp(prefix="edge-"))  # where another user may look
    folder.chmod(0o755)
    try:
        with served(folder, ListenerLimits(connections=4)) as up:
            up.path.chmod(0o666)
            command = [sys.executable, "-c", HOLDING, "12345", str(up.path), "4"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holding:
                assert holding.stdin is not None
                assert holding.stdout is not None
                assert holding.stdout.readline() == b"held\n"
                with connected(up) as one, connected(up) as two:
                    for client in (one, two):
                        client.sendall(LIVE)
                        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
                    told = live(up)  # half of them are this user's now
                    assert b"503" in told.split(b"\r\n")[0]
                    assert b"4 connections are open, 2 of them by user 0" in told
                holding.stdin.close()
    finally:
        shutil.rmtree(folder)
