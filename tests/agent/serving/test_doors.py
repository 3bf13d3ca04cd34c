"""Who may come in: loopback, a token, permissions at the socket; and what may not be opened."""

from __future__ import annotations

import grp
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from agent_serving import served

from edge_agent.errors import ListenRefused
from edge_agent.inference.engine import Engine
from edge_agent.serving.doors import Doors, is_loopback, opened, parse_address
from edge_agent.serving.listener import listen_tcp, listen_unix
from edge_agent.serving.token import read_or_make_token


def test_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "serve.token"
    token = read_or_make_token(path)
    assert len(token) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_make_token(path) == token


def test_a_token_that_others_can_read_or_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "serve.token"
    read_or_make_token(path)
    path.chmod(0o640)
    with pytest.raises(ListenRefused, match="mode 0640, a token needs 0600"):
        read_or_make_token(path)
    for content in (b"", b"short", b"with spaces in it, many of them", bytes(40), "ä".encode() * 20):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ListenRefused, match="holds no token"):
            read_or_make_token(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":80", ("127.0.0.1", 80)),
        ("[::1]:1", ("::1", 1)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses_are_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["8080", "localhost", "h:port", "h:-1", "h:65536", ""])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ListenRefused, match="HOST:PORT"):
        parse_address(text)


def test_an_address_that_others_reach_is_opened_only_when_it_is_asked_for(tmp_path: Path) -> None:
    assert is_loopback("127.0.0.9")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("device.local")
    doors = Doors(tmp_path / "token", ("0.0.0.0", 0))
    with pytest.raises(ListenRefused, match="--serve-exposed"), opened(doors, Engine(), "0"):
        pass
    with opened(Doors(tmp_path / "token", ("0.0.0.0", 0), exposed=True), Engine(), "0") as listeners:
        assert len(listeners) == 1


def test_an_address_in_use_or_not_ours_is_refused() -> None:
    with closing(listen_tcp("127.0.0.1", 0)) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(ListenRefused, match=f"cannot serve on 127.0.0.1:{port}"):
            listen_tcp("127.0.0.1", port)


def test_the_socket_belongs_to_owner_and_group(tmp_path: Path) -> None:
    group = os.getgid()
    with closing(listen_unix(tmp_path / "s", group=group)):
        status = (tmp_path / "s").stat()
        assert (status.st_mode & 0o777, status.st_gid) == (0o660, group)
    doors = Doors(tmp_path / "token", socket=tmp_path / "s", group=grp.getgrgid(group).gr_name)
    with opened(doors, Engine(), "0") as listeners:
        assert listeners[0].address == str(tmp_path / "s")
    doors = Doors(tmp_path / "token", socket=tmp_path / "t", group="no-such-group")
    with pytest.raises(ListenRefused, match="no group 'no-such-group'"), opened(doors, Engine(), "0"):
        pass


def test_a_dead_socket_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    listen_unix(dead).close()
    listen_unix(dead).close()
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ListenRefused, match="something that is no socket is there"):
        listen_unix(file)
    assert file.read_text() == "precious"
    with served(tmp_path) as up:
        with pytest.raises(ListenRefused, match="another process does"):
            listen_unix(up.path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(up.path))
    with pytest.raises(ListenRefused, match="cannot serve on"):
        listen_unix(tmp_path / "missing" / "s")
