"""TLS at the daemon's own port: clients that verify come in, renewals are taken, halves of them are not."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from agent_serving import ASK, INFER, opened_serving, quick
from served_tls import Authority

from edge_agent.device.home import Home
from edge_agent.errors import ListenRefused
from edge_agent.inference.engine import Engine
from edge_agent.serving.doors import Doors, opened
from edge_agent.serving.listener import ListenerLimits
from edge_agent.serving.tls import Tls, note_served, read_served

CA = Authority("a ca")


@dataclass(frozen=True)
class Port:
    """A TLS port that is up."""

    cert: Path
    key: Path
    port: int
    token: str

    def connection(self, context: ssl.SSLContext) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)

    def ask(self, connection: HTTPSConnection, token: str = "") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        connection.request("POST", INFER, json.dumps(ASK), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def once(self, context: ssl.SSLContext) -> int:
        """The status of one request over a connection of its own."""
        connection = self.connection(context)
        try:
            return self.ask(connection)[0]
        finally:
            connection.close()


@contextmanager
def up(folder: Path, limits: ListenerLimits | None = None) -> Iterator[Port]:
    cert, key, token = folder / "cert.pem", folder / "key.pem", folder / "serve.token"
    CA.issue(cert, key)
    engine = Engine()
    engine.switch(opened_serving(folder / "bundle"))
    engine.start()
    doors = Doors(token, ("127.0.0.1", 0), tls=(cert, key), limits=limits or ListenerLimits())
    try:
        with opened(doors, engine, "0.1.0") as (listener,):
            address: Any = listener.address
            yield Port(cert, key, address[1], token.read_text().strip())
    finally:
        engine.stop()
        engine.switch(None)


def test_a_client_that_verifies_is_answered_over_one_connection_and_needs_the_token(tmp_path: Path) -> None:
    with up(tmp_path) as port:
        connection = port.connection(CA.client())
        for _ in range(3):
            status, document = port.ask(connection)
            assert (status, document["model_name"]) == (200, "tiny")
        assert isinstance(connection.sock, ssl.SSLSocket)
        assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
        status, document = port.ask(connection, "another token, as long")
        assert (status, document["code"]) == (401, "unauthorized")
        connection.close()


def test_a_client_that_verifies_by_another_ca_does_not_come_in(tmp_path: Path) -> None:
    with up(tmp_path) as port, pytest.raises(ssl.SSLCertVerificationError):
        port.once(Authority("another ca").client())


def test_tls_before_1_2_and_plain_http_are_not_spoken(tmp_path: Path) -> None:
    with up(tmp_path) as port:
        old = CA.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError, match=r"."):  # an alert, or a connection that is closed behind one
            port.once(old)
        just = CA.client()
        just.maximum_version = ssl.TLSVersion.TLSv1_2
        assert port.once(just) == 200
        with socket.create_connection(("127.0.0.1", port.port), 10) as plain:
            plain.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: e\r\n\r\n")
            assert not _rest(plain).startswith(b"HTTP")


def test_a_renewal_is_taken_by_the_next_connection_and_half_of_one_is_not(tmp_path: Path) -> None:
    later = Authority("a later ca")
    with up(tmp_path) as port:
        held = port.connection(CA.client())
        assert port.ask(held)[0] == 200
        kept = port.key.read_bytes()
        later.issue(port.cert, port.key)
        whole = port.key.read_bytes()
        port.key.write_bytes(kept)  # the certificate is new, its key is still on its way
        assert port.once(CA.client()) == 200
        port.key.unlink()
        assert port.once(CA.client()) == 200
        port.key.write_bytes(whole)
        port.key.chmod(0o600)
        assert port.once(later.client()) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            port.once(CA.client())
        assert port.ask(held)[0] == 200, "who is connected stays so"
        held.close()


def test_who_does_not_shake_hands_holds_up_nobody_and_is_let_go(tmp_path: Path) -> None:
    with up(tmp_path, quick(head_s=0.3)) as port:
        with socket.create_connection(("127.0.0.1", port.port), 10) as silent:
            assert port.once(CA.client()) == 200
            assert silent.recv(10) == b""
        with socket.create_connection(("127.0.0.1", port.port), 10) as noisy:
            noisy.sendall(bytes(range(256)) * 10)
            with suppress(OSError):  # it was reset already
                noisy.shutdown(socket.SHUT_WR)
            _rest(noisy)
        assert port.once(CA.client()) == 200


def test_beyond_the_places_a_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    with up(tmp_path, ListenerLimits(connections=1)) as port:
        held = port.connection(CA.client())
        assert port.ask(held)[0] == 200
        with pytest.raises(OSError, match=r"."):
            port.once(CA.client())
        assert port.ask(held)[0] == 200
        held.close()


def test_the_end_does_not_wait_for_clients_that_ask_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as port:
        idle = port.connection(CA.client())
        assert port.ask(idle)[0] == 200
    assert _rest(idle.sock) == b""
    idle.close()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("another key", "no certificate with its key"),
        ("no pem", "no certificate with its key"),
        ("an encrypted key", "is encrypted"),
        ("a key for everybody", "mode 0644, everybody can read it"),
        ("no certificate", "cannot read"),
        ("no key", "cannot read"),
    ],
)
def test_files_that_are_no_certificate_with_its_key_are_refused(tmp_path: Path, what: str, said: str) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    CA.issue(cert, key, password=b"secret" if "encrypted" in what else b"")
    if what == "another key":
        CA.issue(tmp_path / "other.pem", key)
    elif what == "no pem":
        cert.write_bytes(b"hello")
    elif what == "a key for everybody":
        key.chmod(0o644)
    elif what == "no certificate":
        cert.unlink()
    elif what == "no key":
        key.unlink()
    with pytest.raises(ListenRefused, match=said) as refused:
        Tls(cert, key)
    assert "\n" not in str(refused.value)


def test_with_a_certificate_an_address_that_others_reach_may_be_served_and_without_it_may_not(
    tmp_path: Path,
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    CA.issue(cert, key)
    engine = Engine()
    with opened(Doors(tmp_path / "t", ("0.0.0.0", 0), tls=(cert, key)), engine, "1") as (listener,):
        address: Any = listener.address
        with (
            socket.create_connection(("127.0.0.1", address[1]), 10) as plain,
            CA.client().wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.sendall(b"GET /v2 HTTP/1.1\r\nHost: e\r\nContent-Length: 0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 401"), "the token is asked for all the same"
    with (
        pytest.raises(ListenRefused, match="--serve-cert"),
        opened(Doors(tmp_path / "t", ("0.0.0.0", 0)), engine, "1"),
    ):
        pass


def test_which_files_are_served_is_noted_until_none_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert read_served(home) is None
    note_served(home, tmp_path / "cert.pem", tmp_path / "key.pem")
    noted = read_served(home)
    assert noted is not None
    assert (noted.cert, noted.key) == (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    note_served(home, None, None)
    assert read_served(home) is None
    note_served(home, None, None)


def _rest(sock: socket.socket) -> bytes:
    """All that comes until the other end closes, in whichever way."""
    found = b""
    try:
        while part := sock.recv(1000):
            found += part
    except OSError:  # a reset, or an alert
        pass
    return found


def test_a_disk_that_does_not_take_the_note_keeps_nobody_from_being_served(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    (home.serve_tls / "in-the-way").mkdir(parents=True)
    note_served(home, tmp_path / "cert.pem", tmp_path / "key.pem")
    note_served(home, None, None)
    assert read_served(home) is None
