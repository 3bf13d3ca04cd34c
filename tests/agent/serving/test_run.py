"""`edge-agent run --serve --socket`, as a new user starts it: a device without a fleet and one bundle."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from agent_bundles import GOLDEN_X, KEY, build, reference
from agent_fleet import free_port, until
from agent_serving import ASK, INFER
from click.testing import CliRunner, Result

from edge_agent.cli import main
from edge_contracts.bundle import open_bundle


@pytest.fixture
def home(tmp_path: Path) -> Path:
    bundle, key = tmp_path / "tiny.bundle", tmp_path / "publisher.pub"
    bundle.write_bytes(build())
    key.write_bytes(KEY.public.pem)
    told = CliRunner().invoke(
        main, ["install", str(bundle), "--trust", str(key), "--home", str(tmp_path / "h")]
    )
    assert told.exit_code == 0, told.output
    return tmp_path / "h"


@contextmanager
def running(home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    code = "from edge_agent.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "--home", str(home), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log.decode()


def test_applications_reach_the_daemon_by_http_and_by_its_socket(home: Path, tmp_path: Path) -> None:
    port, path, body = free_port(), tmp_path / "edge.sock", json.dumps(ASK)
    with running(home, "--serve", f"127.0.0.1:{port}", "--socket", str(path)):

        def ready() -> bool:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", "/v2/health/ready")
                return connection.getresponse().status == 200
            except OSError:
                return False
            finally:
                connection.close()

        until(ready, "the daemon is ready")
        token = (home / "serve.token").read_text().strip()
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", INFER, body, {"Authorization": f"Bearer {token}"})
        assert json.loads(connection.getresponse().read())["model_name"] == "tiny"
        connection.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(
                f"POST {INFER} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("options", [["--serve-cert", "c"], ["--serve", ":0", "--serve-key", "k"]])
def test_a_certificate_without_a_port_or_a_key_without_a_certificate_is_wrong_usage(
    home: Path, options: list[str]
) -> None:
    told = CliRunner().invoke(main, ["run", "--home", str(home), *options])
    assert told.exit_code == 2
    assert "go together" in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--serve", ":0", "--serve-cert", "/nowhere/cert.pem"], "cannot read /nowhere/cert.pem"),
        (["--serve", "nonsense"], "expected HOST:PORT"),
        (["--serve", "0.0.0.0:0"], "--serve-exposed"),
        (["--socket", "/nowhere/at/all/s"], "cannot serve on /nowhere/at/all/s"),
    ],
)
def test_what_cannot_be_served_on_stops_the_start_with_one_line(
    home: Path, options: list[str], said: str
) -> None:
    told = CliRunner().invoke(main, ["run", "--home", str(home), *options])
    assert told.exit_code == 1
    assert said in told.stderr
    assert len(told.stderr.strip().splitlines()[-1]) < 300


class Client(HTTPConnection):
    """One application at the socket, asking without a pause."""

    def __init__(self, path: Path) -> None:
        super().__init__("edge", timeout=20)
        self._path = path
        self.told: list[tuple[int, str, str]] = []  # status, version, digest
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))

    def _ask(self) -> None:
        while not self.enough.is_set():
            self.request("POST", INFER, json.dumps(ASK))
            answer = self.getresponse()
            document = json.loads(answer.read())
            bundle = document.get("parameters", {}).get("bundle", document.get("error"))
            self.told.append((answer.status, document.get("model_version", ""), bundle))
        self.close()


def test_an_update_under_load_loses_no_request_and_a_bad_candidate_changes_nothing(
    home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "edge.sock"
    digests = {version: open_bundle(build(version=version)).digest for version in ("1", "2")}
    wrong = reference(GOLDEN_X)[:, ::-1].copy()
    candidates = {"bad": build(version="3", expected=wrong), "good": build(version="2")}
    for name, content in candidates.items():
        (tmp_path / name).write_bytes(content)

    def install(name: str) -> Result:
        return CliRunner().invoke(main, ["install", str(tmp_path / name), "--home", str(home)])

    with running(home, "--socket", str(path), "--health-window", "0", "--health-inferences", "5"):
        clients = [Client(path) for _ in range(3)]
        until(path.exists, "the socket is there")
        for client in clients:
            until(lambda c=client: _answers(c), "the daemon answers")  # type: ignore[misc]
            client.thread.start()
        assert install("bad").exit_code != 0
        before = [len(client.told) for client in clients]
        assert install("good").exit_code == 0
        until(lambda: all(c.told[-1][1] == "2" for c in clients), "all are answered by the new one")
        for client in clients:
            client.enough.set()
            client.thread.join(20)
    assert all(count > 0 for count in before)
    told = {answer for client in clients for answer in client.told}
    assert told == {(200, version, digest) for version, digest in digests.items()}
    for client in clients:  # and nobody went back and forth
        versions = [version for _, version, _ in client.told]
        assert versions == sorted(versions)


def _answers(client: Client) -> bool:
    try:
        client.request("GET", "/v2/health/ready")
        answer = client.getresponse()
        answer.read()
        return answer.status == 200
    except OSError:
        client.close()
        return False
