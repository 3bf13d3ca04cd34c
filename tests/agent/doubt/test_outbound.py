"""Kept inputs leave only where that is allowed, signed, each once, and never above a day's budget."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cbor2
import numpy as np
import pytest
from agent_fleet import make_certificate, until

from edge_agent.device.home import Home
from edge_agent.doubt.arranging import settle_review
from edge_agent.doubt.outbound import DAY_S, Ledger, Outbound, Sender, read_ledger, spend
from edge_agent.doubt.ring import Bounds, Head, ReviewRing
from edge_agent.doubt.settings import ReviewSettings
from edge_agent.errors import HomeInvalid, ServerUnreachable, SettingRefused
from edge_contracts import cose
from edge_contracts.arrays import read_npz
from edge_contracts.errors import SignatureInvalid
from edge_contracts.keys import PrivateKey

X = np.random.default_rng(0).normal(0, 1, (1, 500)).astype(np.float32)  # about 2 kB that does not pack
SENDER = Sender("fleet", "d1", PrivateKey.generate())


class Collector(ThreadingHTTPServer):
    """Takes what is sent, or answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[bytes] = []
        self.status = 204

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/review"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        collector = self.server
        assert isinstance(collector, Collector)
        collector.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(collector.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ring(tmp_path: Path) -> ReviewRing:
    return ReviewRing(tmp_path / "review", tmp_path / "review.key")


def keep(ring: ReviewRing, *names: str) -> None:
    for name in names:
        head = Head(
            request=name,
            time_ms=1,
            bundle="sha256:" + "a" * 64,
            artifact="int8",
            reason="uncertain",
            answer=2,
        )
        assert ring.keep(head, {"x": X}, Bounds(1 << 20, 100))


def outbound(ring: ReviewRing, path: Path, url: str, per_day: int = 1 << 20, now_s: float = 0.0) -> Outbound:
    settings = ReviewSettings(upload_to=url, bytes_per_day=per_day)
    return Outbound(ring, path / "sent.json", settings, SENDER, lambda: now_s)


def test_what_arrives_is_signed_and_whole(ring: ReviewRing, tmp_path: Path, collector: Collector) -> None:
    keep(ring, "a")
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 1
    (envelope,) = collector.taken
    payload = cbor2.loads(cose.verify(envelope, "edge/v1/fleet/d1/review", SENDER.key.public))
    assert (payload["v"], payload["type"], payload["device"], payload["number"]) == (1, "review", "d1", 0)
    assert (payload["about"]["request"], payload["about"]["answer"]) == ("a", 2)
    np.testing.assert_array_equal(read_npz(payload["inputs"])["x"], X)
    with pytest.raises(SignatureInvalid):
        cose.verify(envelope, "edge/v1/fleet/d2/review", SENDER.key.public)


def test_each_is_sent_once_over_restarts_and_after_everything_was_forgotten(
    ring: ReviewRing, tmp_path: Path, collector: Collector
) -> None:
    keep(ring, "a", "b")
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 2
    keep(ring, "c")
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 1
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 0
    ring.clear()
    keep(ring, "d")
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 1
    assert len(collector.taken) == 4


def test_a_days_budget_is_never_exceeded_and_the_next_day_goes_on(
    ring: ReviewRing, tmp_path: Path, collector: Collector
) -> None:
    keep(ring, *"abcdef")
    per_day = 16_000
    sent = outbound(ring, tmp_path, collector.url, per_day).send_waiting()
    assert 1 <= sent < 6
    assert sum(map(len, collector.taken)) <= read_ledger(tmp_path / "sent.json").spent_bytes <= per_day
    assert outbound(ring, tmp_path, collector.url, per_day, now_s=DAY_S - 1).send_waiting() == 0
    assert outbound(ring, tmp_path, collector.url, per_day, now_s=DAY_S).send_waiting() == min(sent, 6 - sent)


def test_bytes_are_written_off_before_they_are_sent(ring: ReviewRing, tmp_path: Path) -> None:
    keep(ring, "a")
    nobody = outbound(ring, tmp_path, "http://127.0.0.1:9/review", per_day=8000)
    with pytest.raises(ServerUnreachable):
        nobody.send_waiting()
    ledger = read_ledger(tmp_path / "sent.json")
    assert ledger.spent_bytes > X.nbytes
    assert ledger.sent == -1
    assert nobody.send_waiting() == 0  # a second try would be above the budget


def test_one_that_is_refused_does_not_hold_up_the_others_and_a_failing_server_is_asked_again(
    ring: ReviewRing, tmp_path: Path, collector: Collector
) -> None:
    keep(ring, "a")
    collector.status = 503
    with pytest.raises(ServerUnreachable):
        outbound(ring, tmp_path, collector.url).send_waiting()
    collector.status = 413
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 0
    collector.status = 200
    keep(ring, "b")
    assert outbound(ring, tmp_path, collector.url).send_waiting() == 1
    assert len(collector.taken) == 3


@pytest.mark.parametrize(
    ("url", "ca"),
    [
        ("https://fleet.example:8443/api/v1/review", "PEM"),
        ("https://FLEET.example:8443/elsewhere", "PEM"),
        ("https://fleet.example/api/v1/review", ""),
        ("https://fleet.example.org:8443/api/v1/review", ""),
        ("http://fleet.example:8443/api/v1/review", ""),
    ],
)
def test_the_fleets_own_ca_certifies_the_fleets_own_server_and_nobody_else(url: str, ca: str) -> None:
    sender = replace(SENDER, server="https://fleet.example:8443", server_ca="PEM")
    assert sender.ca_of(url) == ca


def test_a_server_that_its_own_authority_certifies_takes_them_from_its_devices(
    ring: ReviewRing, tmp_path: Path
) -> None:
    ca = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    keep(ring, "a")
    with Collector() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = server.url.replace("http:", "https:")
            sender = replace(SENDER, server=url.removesuffix("/review"), server_ca=ca)
            settings = ReviewSettings(upload_to=url)
            sent = tmp_path / "sent.json"
            with pytest.raises(ServerUnreachable, match="does not verify"):
                Outbound(ring, sent, settings, SENDER).send_waiting()
            assert Outbound(ring, sent, settings, sender).send_waiting() == 1
        finally:
            server.shutdown()
            thread.join()


def test_a_clock_that_goes_back_opens_no_new_budget() -> None:
    ledger = Ledger(day=10, spent_bytes=900)
    assert spend(ledger, 101, 1000, 3 * DAY_S) is None
    assert spend(ledger, 100, 1000, 3 * DAY_S) == Ledger(day=10, spent_bytes=1000)
    assert spend(ledger, 101, 1000, 11 * DAY_S) == Ledger(day=11, spent_bytes=101)
    assert spend(Ledger(), 1001, 1000, 0.0) is None


def test_a_damaged_ledger_sends_nothing(ring: ReviewRing, tmp_path: Path, collector: Collector) -> None:
    keep(ring, "a")
    (tmp_path / "sent.json").write_text("{")
    with pytest.raises(HomeInvalid, match="nothing is uploaded"):
        outbound(ring, tmp_path, collector.url).send_waiting()
    assert collector.taken == []


@pytest.mark.parametrize("url", ["http://collector.example/x", "ftp://x/y", "collector.example", "https://"])
def test_inputs_do_not_leave_in_clear(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingRefused, match="no address that inputs may leave to: it must be https"):
        settle_review(Home(tmp_path / "home"), {"upload_to": url})


def test_a_device_without_a_fleet_cannot_be_allowed_to_send(tmp_path: Path) -> None:
    with pytest.raises(SettingRefused, match="enrol the device"):
        settle_review(Home(tmp_path / "home"), {"upload_to": "https://collector.example/x"})


def test_the_thread_sends_what_waits_and_ends(ring: ReviewRing, tmp_path: Path, collector: Collector) -> None:
    keep(ring, "a")
    sending = outbound(ring, tmp_path, collector.url)
    sending.start()
    until(lambda: read_ledger(tmp_path / "sent.json").sent == 0, "it is sent")
    sending.stop()
    assert len(collector.taken) == 1
