"""A download that must wait is not a failed update: it goes on by itself, and the server is told why."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fault_device import HEALTHY, Life
from update_host import Host

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.updates.budget import DataRules, parse_hours
from edge_agent.updates.fetching import LONGEST_WAIT_S, MAX_REFUSALS
from edge_agent.updates.local import AtOnce
from edge_agent.updates.slots import Phase
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_contracts.digest import digest_of
from edge_contracts.messages import Assignment
from edge_contracts.messages import Phase as Told

LATER_S = 1e9  # beyond every pause


class Server:
    """Answers with the statuses of a list, then with the archive."""

    def __init__(self, content: bytes) -> None:
        self.statuses: list[int] = []
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests += 1
                status = server.statuses.pop(0) if server.statuses else 200
                self.send_response(status)
                self.send_header("Content-Length", str(len(content) if status == 200 else 0))
                self.send_header("Retry-After", "3600")
                self.end_headers()
                if status == 200:
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Nobody reads it."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def life(tmp_path: Path) -> Life:
    made = Life(tmp_path / "life")
    made.make()
    return made


@pytest.fixture
def server(life: Life) -> Iterator[Server]:
    made = Server(life.archive("1").read_bytes())
    thread = threading.Thread(target=made.http.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def updater(life: Life, server: Server, host: Host, rules: DataRules | None = None) -> Updater:
    config = read_config(life.home)
    assert config is not None
    config = config.model_copy(update={"server": server.url})
    trusted = trusted_publishers(life.home, config)
    store = Store(life.home)
    made = Updater(life.home, store, config, trusted, host, AtOnce(), Random(1), downloads=rules)
    made.start()
    return made


def assign(made: Updater, life: Life) -> None:
    content = life.archive("1").read_bytes()
    made.assigned(
        Assignment(
            device="cam-1",
            number=1,
            bundle=life.digest("1"),
            archive=digest_of(content),
            archive_bytes=len(content),
            url_path="/archive",
            counter=1,
        ),
        1_795_694_400_000,
    )


def test_a_server_that_sheds_load_is_asked_again_however_often_it_says_so(life: Life, server: Server) -> None:
    host = Host()
    made = updater(life, server, host)
    server.statuses = [429, 503] * MAX_REFUSALS
    assign(made, life)
    for _ in range(2 * MAX_REFUSALS):
        progress = made.slots.progress
        assert progress is not None
        assert (progress.phase, progress.code) == (Told.DOWNLOADING, "server-busy")
        before = server.requests
        made.tick(0.0)
        assert server.requests == before, "asked again before the hour is over"
        made.tick(LATER_S)
    assert made.slots.phase is Phase.TRIAL
    made.judged(HEALTHY)
    assert made.slots.bundle_in(made.slots.active) == life.digest("1")
    events = [(t.event, t.code) for t in host.told]
    assert events.count(("download-waits", "server-busy")) == 1, "one reason is told once"
    assert "refused" not in [event for event, _ in events]


def test_a_spent_budget_is_told_and_the_update_is_not_failed(life: Life, server: Server) -> None:
    host = Host()
    made = updater(life, server, host, DataRules(month_bytes=1000))
    assign(made, life)
    for _ in range(5):
        made.tick(LATER_S)
    progress = made.slots.progress
    assert progress is not None
    assert (progress.phase, progress.code) == (Told.DOWNLOADING, "data-budget")
    assert "1000 of 1000 bytes of this month" in progress.detail
    assert server.requests == 1, "asked again although nothing may be fetched"
    assert made.is_busy
    richer = updater(life, server, host)
    assign(richer, life)
    assert richer.slots.phase is Phase.TRIAL


def test_an_hour_that_is_not_one_for_downloads_is_told(life: Life, server: Server) -> None:
    from time import localtime

    closed = (localtime().tm_hour + 12) % 24  # twelve hours from now, for an hour
    hours = parse_hours(f"{closed:02}:00-{(closed + 1) % 24:02}:00")
    made = updater(life, server, Host(), DataRules(hours=hours))
    assign(made, life)
    progress = made.slots.progress
    assert progress is not None
    assert (progress.phase, progress.code) == (Told.DOWNLOADING, "hours")
    assert server.requests == 0
    assert LONGEST_WAIT_S < 3600, "a clock that is set meanwhile is noticed"


def test_a_server_that_says_no_three_times_is_an_answer(life: Life, server: Server) -> None:
    made = updater(life, server, Host())
    server.statuses = [404] * MAX_REFUSALS
    assign(made, life)
    for _ in range(MAX_REFUSALS - 1):
        made.tick(LATER_S)
    progress = made.slots.progress
    assert progress is not None
    assert (progress.phase, progress.code) == (Told.REFUSED, "server-refused")


def test_a_link_that_is_down_for_years_is_tried_again(life: Life, server: Server) -> None:
    made = updater(life, server, Host())
    server.statuses = [500] * 1100  # two to the 1024th is no float any more
    assign(made, life)
    for _ in range(1099):
        made.tick(LATER_S)
    progress = made.slots.progress
    assert progress is not None
    assert (progress.phase, progress.code) == (Told.DOWNLOADING, "server-unreachable")
    made.tick(LATER_S)
    assert made.slots.phase is Phase.TRIAL
