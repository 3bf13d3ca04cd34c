"""HTTP on real sockets: what is not HTTP, too large or too slow is told so and costs one connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_fleet import until
from agent_serving import ASK, INFER, Served, quick, served

from edge_agent.serving.listener import ListenerLimits
from edge_agent.serving.wire import Hung, Wire, WireLimits


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = quick(head_s=0.2, idle_s=20.0, body_bytes=100_000, slowest_bytes_per_s=1e9)
    with served(tmp_path_factory.mktemp("wire"), limits) as running:
        yield running


def talk(up: Served, content: bytes, end: bool = False) -> bytes:
    """Everything that is answered to some bytes until the server closes."""
    with up.connect() as client:
        client.sendall(content)
        if end:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def post(up: Served, headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    head = f"POST {INFER} HTTP/{version}\r\nHost: edge\r\nAuthorization: Bearer {up.token}\r\n{headers}\r\n"
    return head.encode() + body


BODY = json.dumps(ASK).encode()


def test_two_requests_sent_at_once_are_answered_one_after_the_other(up: Served) -> None:
    one = post(up, f"Content-Length: {len(BODY)}\r\n", BODY)
    last = post(up, f"Content-Length: {len(BODY)}\r\nConnection: close\r\n", BODY)
    assert talk(up, b"\r\n" + one + last).count(b"HTTP/1.1 200 OK") == 2


def test_an_empty_line_behind_a_request_begins_no_other() -> None:
    """Old clients send one behind a body; it was taken for a head that is too slow."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = Wire(ours, WireLimits(idle_s=5.0, head_s=0.05))
        theirs.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n")
        assert wire.read_head().path == "/"
        later = threading.Timer(0.3, theirs.sendall, [b"\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n"])
        later.start()
        assert wire.read_head().path == "/second"
        later.join()


def test_empty_lines_keep_a_connection_no_longer_than_silence_does() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\r\n" * 3)
        with pytest.raises(Hung):
            Wire(ours, WireLimits(idle_s=0.05)).read_head()


def test_a_body_in_chunks_is_read_and_the_connection_ends(up: Served) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:20], BODY[20:])) + b"0\r\n\r\n"
    answer = talk(up, post(up, "Transfer-Encoding: chunked\r\n", chunks))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


def test_http_1_0_and_an_offered_upgrade_are_answered_plainly(up: Served) -> None:
    assert talk(up, post(up, f"Content-Length: {len(BODY)}\r\n", BODY, "1.0")).startswith(b"HTTP/1.1 200")
    offered = f"Content-Length: {len(BODY)}\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n"
    assert talk(up, post(up, offered, BODY), end=True).startswith(b"HTTP/1.1 200")


def test_a_client_that_asks_whether_to_send_is_told_to(up: Served) -> None:
    with up.connect() as client:
        client.sendall(post(up, f"Content-Length: {len(BODY)}\r\nExpect: 100-continue\r\n"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(BODY)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


HOST = b"Host: edge\r\n"


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"\x16\x03\x01\x02\x00hello\r\n\r\n", 400, b"the head is not HTTP"),
        (b"GET /v2\r\n\r\n", 505, b"HTTP 0.9 is not offered"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"Host header is missing"),
        (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505, b"HTTP 2.0 is not offered"),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400, b"upgrade"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 70 + b"\r\n", 431, b"more than 64 headers"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 20_000 + b"\r\n\r\n", 431, b"16384 bytes"),
        (b"GET /" + b"a" * 20_000, 431, b"16384 bytes"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400, b"not HTTP"),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, b"not HTTP"),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            b"not HTTP",
        ),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400, b"not HTTP"),
        (b"GET /slow HTTP/1.1\r\nHost: ed", 408, b"the head took longer"),
    ],
)
def test_what_is_not_a_request_is_refused_and_the_connection_ends(
    up: Served, content: bytes, status: int, said: bytes
) -> None:
    answer = talk(up, content)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert said in answer
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 100001\r\n", b"", 413),
        ("Content-Length: 1000\r\n", b"{", 408),
        ("Transfer-Encoding: chunked\r\n", b"5\r\nabc", 408),
        ("Transfer-Encoding: chunked\r\n", b"zz\r\nabc", 400),
        ("Transfer-Encoding: chunked\r\n", b"%x\r\n" % 200_000 + bytes(200_000), 413),
        ("Transfer-Encoding: gzip\r\n", b"abc", 400),
    ],
)
def test_bodies_too_large_too_slow_or_broken_are_refused(
    up: Served, headers: str, body: bytes, status: int
) -> None:
    assert talk(up, post(up, headers, body)).startswith(b"HTTP/1.1 %d " % status)


def test_a_client_that_goes_away_in_a_body_costs_nothing(up: Served) -> None:
    assert talk(up, post(up, "Content-Length: 1000\r\n", b"{"), end=True) == b""
    assert up.infer(ASK).status == 200


def test_an_idle_connection_and_a_client_that_takes_no_answer_are_let_go() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = Wire(ours, WireLimits(idle_s=0.01, send_s=0.01))
        with pytest.raises(Hung):
            wire.read_head()
        with pytest.raises(Hung):
            wire.send((bytes(64 << 20),))


def test_beyond_the_last_connection_clients_are_told_and_a_place_is_free_again(tmp_path: Path) -> None:
    with served(tmp_path, ListenerLimits(connections=1)) as up:
        with up.connect() as holding:
            holding.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n\r\n")
            assert holding.recv(100).startswith(b"HTTP/1.1 200 OK")
            with up.connect() as turned_away:
                assert turned_away.recv(1000).startswith(b"HTTP/1.1 503")

        def answered() -> bool:
            with up.connect() as client:
                try:
                    client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
                    return client.recv(100).startswith(b"HTTP/1.1 200 OK")
                except ConnectionError:
                    return False

        until(answered, "the place is free")
