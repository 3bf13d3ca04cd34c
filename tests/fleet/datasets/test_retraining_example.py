"""The example's receiver run as it stands: it trains on what the fleet asks for, and on nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from fleet_device import eventually

from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.webhooks.signing import headers, secret_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "retraining" / "receiver.py"
SECRET = secret_of(b"s" * 32)


def _asked(labelled: int) -> bytes:
    data = {"samples": {"export": "/export", "labelled": labelled}, "why": "drift"}
    return json.dumps({"type": "retraining.requested", "data": data}).encode()


BODY, NOTHING = _asked(3), _asked(0)


class _Samples(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer op" and self.path == "/export"
        self.send_response(200 if allowed else 403)
        self.end_headers()
        self.wfile.write(b"the samples")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with _receiver(tmp_path) as found:
        yield found


@contextmanager
def _receiver(folder: Path) -> Iterator[int]:
    """The port of a receiver whose training writes down what it was given."""
    training = (
        "import os, sys, json, time; from pathlib import Path; given = Path(sys.argv[1])\n"
        "(given.parent / 'begun').touch()\n"
        "while (given.parent / 'slow').exists(): time.sleep(0.02)\n"
        "Path(sys.argv[1] + '.done').write_text("
        "given.read_text() + ' ' + json.loads(os.environ['EDGE_FLEET_EVIDENCE'])['why'])"
    )
    found = free_loopback_port()
    with HTTPServer(("127.0.0.1", 0), _Samples) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        words = [
            f"http://127.0.0.1:{server.server_address[1]}",
            str(found),
            str(folder),
            "--",
            sys.executable,
            "-c",
            training,
        ]
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), *words],
            env={**os.environ, "WEBHOOK_SECRET": SECRET, "EDGE_FLEET_TOKEN": "op"},
            stderr=subprocess.DEVNULL,
        )
        try:
            eventually(lambda: _status(found, {}) == 401, "the receiver")
            yield found
        finally:
            process.terminate()
            process.wait(10)
            server.shutdown()
            thread.join()


def _status(port: int, sent: dict[str, str], body: bytes = BODY) -> int:
    try:
        with httpx.Client(trust_env=False, timeout=20) as client:
            return client.post(f"http://127.0.0.1:{port}/", content=body, headers=sent).status_code
    except httpx.HTTPError:
        return 0


def test_a_signed_request_is_trained_on_once(port: int, tmp_path: Path) -> None:
    sent = headers(SECRET, "msg_1", int(time.time()), BODY)
    assert _status(port, sent) == 204
    eventually((tmp_path / "msg_1.trained").exists, "the training")
    assert (tmp_path / "msg_1.npz.done").read_text() == "the samples drift"
    assert _status(port, sent) == 204
    assert list(tmp_path.glob("*.asked")) == [], "the same message again is left out"


def test_the_answer_does_not_wait_for_the_training_and_a_restart_goes_on_with_it(tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    with _receiver(tmp_path) as port:
        for message in ("msg_4", "msg_5"):
            assert _status(port, headers(SECRET, message, int(time.time()), BODY)) == 204
        eventually((tmp_path / "begun").exists, "the training")
    assert sorted(one.name for one in tmp_path.glob("*.asked")) == ["msg_4.asked", "msg_5.asked"]
    (tmp_path / "slow").unlink()
    with _receiver(tmp_path) as port:
        eventually(lambda: len(list(tmp_path.glob("*.trained"))) == 2, "both trainings")
        assert _status(port, headers(SECRET, "msg_4", int(time.time()), BODY)) == 204
    assert list(tmp_path.glob("*.asked")) == []


def test_a_request_without_labelled_samples_is_answered_and_not_sent_again(port: int, tmp_path: Path) -> None:
    assert _status(port, headers(SECRET, "msg_5", int(time.time()), NOTHING), NOTHING) == 204
    assert list(tmp_path.iterdir()) == []


def test_a_forged_or_an_old_request_is_not(port: int, tmp_path: Path) -> None:
    assert _status(port, headers(secret_of(b"x" * 32), "msg_2", int(time.time()), BODY)) == 401
    assert _status(port, headers(SECRET, "msg_3", int(time.time()) - 301, BODY)) == 401
    assert list(tmp_path.iterdir()) == []
