"""What the doctor says of server and broker: reached or not, their time, their certificates."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Any

import pytest
from agent_fleet import free_port, make_certificate
from enrolled_device import device_config

from edge_agent.device import reach
from edge_agent.device.config import DeviceConfig
from edge_agent.device.finding import Finding, Grade, as_text

DAY_S = 86_400.0
Serve = Callable[..., str]


def config(server: str, **fields: Any) -> DeviceConfig:
    return device_config(**{"server": server, "mqtt_port": free_port(), **fields})


def wrong(findings: list[Finding]) -> dict[str, str]:
    return {f.subject: f.detail for f in findings if f.is_wrong}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A server that is well; its address."""
    running: list[ThreadingHTTPServer] = []

    def start(tls: bool = False, ahead_s: float = 0.0) -> str:
        class Healthy(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time() + ahead_s)

            def log_message(self, format: str, *args: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_nobody_at_either_address_is_said_with_what_goes_on_all_the_same() -> None:
    found = reach.examine(config(f"http://127.0.0.1:{free_port()}"))
    assert set(wrong(found)) == {"server", "broker"}
    assert "Connection refused" in wrong(found)["broker"]
    assert "-> inference goes on, updates wait" in as_text(found)
    assert as_text(found).endswith("2 of 2 must be seen to")


@pytest.mark.parametrize(
    ("ahead_s", "grade"), [(0.0, Grade.GOOD), (-10_800.0, Grade.WRONG), (10_800.0, Grade.WRONG)]
)
def test_the_servers_clock_is_held_against_this_one(serve: Serve, ahead_s: float, grade: Grade) -> None:
    (clock,) = [f for f in reach.examine(config(serve(ahead_s=ahead_s))) if f.subject == "clock"]
    assert clock.grade is grade
    if ahead_s:
        assert clock.detail == f"3 hours {'behind' if ahead_s > 0 else 'ahead of'} the server's"


@pytest.mark.parametrize(("days", "grade"), [(60, Grade.GOOD), (5, Grade.NOTICE)])
def test_a_certificate_that_ends_soon_is_told(serve: Serve, tmp_path: Path, days: int, grade: Grade) -> None:
    ca = make_certificate(tmp_path, days)
    found = reach.examine(config(serve(tls=True), server_ca=ca))
    certificate = next(f for f in found if "certificate" in f.detail)
    assert certificate.grade is grade
    assert f"{days} days" in certificate.detail or f"{days - 1} days" in certificate.detail


def test_a_certificate_that_has_ended_or_of_another_ca_is_wrong(serve: Serve, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    strange = make_certificate(other)
    ended = make_certificate(tmp_path, -1)
    url = serve(tls=True)
    assert "expired" in wrong(reach.examine(config(url, server_ca=ended)))["server"]
    assert "does not verify" in wrong(reach.examine(config(url, server_ca=strange)))["server"]


def test_the_brokers_certificate_is_looked_at_when_it_speaks_tls(serve: Serve, tmp_path: Path) -> None:
    ca = make_certificate(tmp_path, 60)
    port = int(serve(tls=True).rsplit(":", 1)[1])
    well = reach.examine(config(serve(), mqtt_port=port, mqtt_tls=True, mqtt_ca=ca))
    assert not wrong(well)
    assert any(f.subject == "broker" and "good for" in f.detail for f in well)
    untrusted = reach.examine(config(serve(), mqtt_port=port, mqtt_tls=True))
    assert "does not verify" in wrong(untrusted)["broker"]
    plain = int(serve().rsplit(":", 1)[1])
    silent = reach.examine(config(serve(), mqtt_port=plain, mqtt_tls=True, mqtt_ca=ca))
    assert "no TLS with" in wrong(silent)["broker"]


def test_validity_is_by_days_left() -> None:
    assert reach.validity("server", 100 * DAY_S, 0.0).grade is Grade.GOOD
    assert reach.validity("server", 20 * DAY_S, 0.0).grade is Grade.NOTICE
