"""`edge-agent run --serve --socket`, as a new user starts it: a device without a fleet and one bundle."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from agent_bundles import KEY, build
from agent_fleet import free_port, until
from agent_serving import ASK, INFER
from click.testing import CliRunner

from edge_agent.cli import main


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

        until(ready, "the daemon is ready", 30)
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
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
