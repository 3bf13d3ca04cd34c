"""The page of the audit log: found by the database, and the chain checked where it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from console_client import browser, words
from fleet_server import Running
from sqlalchemy import select, update

from edge_fleet.audit import record
from edge_fleet.console import audit as page_of
from edge_fleet.schema import audit


@pytest.fixture(scope="module")
def log(fleet: Running) -> None:
    """Sixty rows of the day before, and one of now."""
    before = fleet.server.now_ms() - 86_400_000
    with fleet.server.store.write() as connection:
        for n in range(60):
            record(connection, "anna", "rollout paused", f"r{n}", before + n, why="<b>calm</b>")
        record(
            connection,
            "bert/1a",
            "token made",
            "t1",
            fleet.server.now_ms(),
            label="ci 100%",
            limits={"at": 60},
        )


@pytest.fixture
def ada(fleet: Running, log: None) -> Iterator[httpx.Client]:
    with browser(fleet, fleet.token("admin")) as found:
        yield found


def test_rows_are_narrowed_by_who_what_when_and_to_what(fleet: Running, ada: httpx.Client) -> None:
    def told(**query: str) -> str:
        return words(ada.get("/console/audit", params=query).text)

    assert "1 to 50 of 60 rows" in told(actor="anna")
    assert "51 to 60 of 60 rows" in told(actor="anna", page="2")
    assert "1 to 1 of 1 rows" in told(actor="bert", action="token", q="100%")
    assert 'limits {"at": 60}' in told(actor="bert")
    assert "1 to 1 of 1 rows" in told(q="r17")
    assert "None fits." in told(actor="anna", q="_")  # no wildcards
    today = datetime.fromtimestamp(fleet.server.now_ms() / 1000, UTC).date()
    assert "of 60 rows" in told(action="paused", until=str(today - timedelta(days=1)))
    assert "None fits." in told(action="paused", since=str(today))
    assert ada.get("/console/audit?since=yesterday").status_code == 400
    assert "&lt;b&gt;calm" in ada.get("/console/audit?actor=anna").text


def test_the_api_narrows_as_the_page_does(fleet: Running, log: None) -> None:
    found = fleet.admin.get("/api/v1/audit", params={"actor": "anna", "most": 2, "skip": 1}).json()
    assert [row["subject"] for row in found] == ["r58", "r57"]


def test_the_chain_is_checked_and_a_changed_row_is_told(
    fleet: Running, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "holds Every one of" in words(ada.get("/console/audit").text)
    with fleet.server.store.read() as connection:
        row = connection.execute(select(audit).where(audit.c.subject == "r17")).one()
    with fleet.server.store.write() as connection:
        connection.execute(update(audit).where(audit.c.id == row.id).values(actor="carl"))
    told = words(ada.get("/console/audit").text)
    assert f"broken audit row {row.id}" in told and "was changed" in told
    with fleet.server.store.write() as connection:
        connection.execute(update(audit).where(audit.c.id == row.id).values(actor=row.actor))
    # a long log is checked when somebody asks
    monkeypatch.setattr(page_of, "CHECKED_ROWS", 10)
    assert "not checked on this visit" in words(ada.get("/console/audit").text)
    assert "holds Every one of" in words(ada.get("/console/audit?verify=true").text)


def test_the_export_is_a_link_that_the_session_may_follow(ada: httpx.Client) -> None:
    page = ada.get("/console/audit").text
    assert 'href="/api/v1/audit/export"' in page
    assert ada.get("/api/v1/audit/export").text.count("\n") >= 61
