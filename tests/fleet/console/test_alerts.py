"""The pages of alerts: found and paged, proved again, acknowledged and silenced; and the rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from console_client import browser, csrf, person, send, words
from fleet_rows import FleetRows
from fleet_server import Running, fleet_server
from sqlalchemy import insert, update

from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_BYTES, Event, Telemetry
from edge_fleet import schema
from edge_fleet.alerts import watch

KEY, EPOCH = PrivateKey.generate(), "0" * 16


def envelope(seq: int, code: str, key: PrivateKey = KEY) -> bytes:
    record = Event(kind="event", name="sample", time_ms=1, code=code)
    message = Telemetry(epoch=EPOCH, seq=seq, prev=b"\1" * CHAIN_BYTES, recs=(record,))
    return seal(message, "edge/v1/f/cam-0/telemetry", key)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that does not look for alerts itself: it would resolve what is made up here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "ROUND_S", 100_000.0)
        with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
            yield found


@pytest.fixture(scope="module")
def numbers(fleet: Running) -> dict[str, int]:
    """A fork, a forgery and sixty silent devices; ids by rule."""
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.enrol("cam-0")
    for name, role in (("anna", "operator"), ("vera", "viewer"), ("ada", "admin")):
        person(fleet, name, role)
    now = fleet.server.now_ms()
    one, other, forged = envelope(4, "one"), envelope(4, "other"), envelope(5, "x", PrivateKey.generate())
    made: dict[str, int] = {}
    with fleet.server.store.write() as connection:
        mine = update(schema.devices).where(schema.devices.c.id == "cam-0")
        connection.execute(mine.values(public_key=KEY.public.raw))
        where = {"device": "cam-0", "epoch": EPOCH, "seq": 4, "received_ms": now}
        connection.execute(
            insert(schema.envelopes).values(**where, prev=b"\1" * 16, chain=chain_value(one), raw=one)
        )
        connection.execute(insert(schema.forks).values(**where, chain=chain_value(other), raw=other))
        connection.execute(
            insert(schema.refused_messages).values(
                reason="key-unknown",
                device="cam-0",
                count=2,
                received_ms=now,
                topic="edge/v1/f/cam-0/telemetry",
                detail="forged",
                raw=forged,
            )
        )
        alerts = [
            ("fork", "cam-0", "critical", "firing", {"proof": "fork", "epoch": EPOCH, "seq": 4}),
            ("bad-signature", "cam-0", "critical", "firing", {"proof": "message", "reason": "key-unknown"}),
            (
                "drift",
                "sha256:" + "1" * 64,
                "warning",
                "resolved",
                {"devices": ["cam-0"], "kinds": ["input"]},
            ),
            *(("silence", f"cam-{n:03}", "warning", "firing", {"last_seen_ms": 1}) for n in range(60)),
        ]
        for rule, subject, level, phase, evidence in alerts:
            row = connection.execute(
                insert(schema.alerts).values(
                    rule=rule,
                    subject=subject,
                    level=level,
                    phase=phase,
                    value=2.0,
                    why=f"{rule} of {subject}",
                    evidence=evidence,
                    since_ms=now,
                    changed_ms=now,
                )
            )
            assert row.inserted_primary_key is not None
            made[rule] = int(row.inserted_primary_key[0])
    return made


@pytest.fixture
def anna(fleet: Running, numbers: dict[str, int]) -> Iterator[httpx.Client]:
    with browser(fleet, name="anna") as found:
        yield found


def rules_in(page: str) -> list[str]:
    return re.findall(r'aria-label="Alert \d+: ([\w-]+)"', page)


def test_open_alerts_come_the_urgent_first_a_page_at_a_time(anna: httpx.Client) -> None:
    first = anna.get("/console/alerts").text
    assert rules_in(first)[:3] == ["bad-signature", "fork", "silence"]
    assert len(rules_in(first)) == 50 and "1 to 50 of 62 alerts" in words(first)
    second = anna.get("/console/alerts?page=2").text
    assert rules_in(second) == ["silence"] * 12 and "After" not in words(second)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("show=past", ["drift"]),
        ("rule=fork", ["fork"]),
        ("level=critical", ["bad-signature", "fork"]),
        ("q=cam-007", ["silence"]),
        ("q=signature+of", ["bad-signature"]),
        ("q=%25", []),
    ],
)
def test_alerts_are_found_by_the_database(anna: httpx.Client, query: str, found: list[str]) -> None:
    assert rules_in(anna.get(f"/console/alerts?{query}").text) == found


def test_a_fork_is_shown_with_both_messages_and_both_signatures_are_checked_again(
    fleet: Running, numbers: dict[str, int], anna: httpx.Client
) -> None:
    here = f"/console/alerts/{numbers['fork']}"
    page = anna.get(here).text
    assert envelope(4, "one").hex() in page and envelope(4, "other").hex() in page
    assert words(page).count("holds signed by cam-0") == 2
    assert "&#34;code&#34;: &#34;other&#34;" in page  # what it says
    with fleet.server.store.write() as connection:  # one byte of the proof is another
        raw = bytearray(envelope(4, "other"))
        raw[-1] ^= 1
        connection.execute(update(schema.forks).values(raw=bytes(raw)))
    told = words(anna.get(here).text)
    assert told.count("holds signed by cam-0") == 1 and "broken signature-invalid" in told


def test_a_forgery_is_shown_as_it_came_and_is_not_the_devices(
    numbers: dict[str, int], anna: httpx.Client
) -> None:
    told = words(anna.get(f"/console/alerts/{numbers['bad-signature']}").text)
    assert "refused: key-unknown" in told and "broken key-unknown" in told
    assert "edge/v1/f/cam-0/telemetry" in told


def test_an_alert_is_acknowledged_and_silenced_with_a_reason(
    fleet: Running, numbers: dict[str, int], anna: httpx.Client
) -> None:
    number = numbers["silence"]
    here = f"/console/alerts/{number}"
    assert send(anna, here, here, do="ack", why="on my way").status_code == 303
    assert "acknowledged" in words(anna.get(here).text) and "on my way" in anna.get(here).text
    twice = send(anna, here, here, do="ack")
    assert twice.status_code == 409 and "cannot be acknowledged" in words(twice.text)
    assert send(anna, here, here, do="silence", seconds="3600", why="known").status_code == 303
    shown = fleet.admin.get(f"/api/v1/alerts/{number}").json()
    assert shown["phase"] == "silenced"
    until = datetime.fromtimestamp(shown["silenced_ms"] / 1000, UTC)
    assert f"silent until {until:%Y-%m-%d %H:%M} UTC" in words(anna.get(here).text)
    for form, status in (({"do": "silence", "seconds": "7"}, 400), ({"do": "delete"}, 404)):
        assert send(anna, here, here, **form).status_code == status
    assert anna.get("/console/alerts/99999").status_code == 404


def test_the_rules_show_their_hysteresis_and_only_an_admin_changes_them(
    fleet: Running, numbers: dict[str, int], anna: httpx.Client
) -> None:
    here = "/console/alerts/rules"
    page = anna.get(here).text
    assert "Bad from 15 , good up to 5 minutes; fires after 0 s, ends after 60 s" in words(page)
    assert "<form" not in page[page.index('id="main"') :]
    form = {"csrf": csrf(page), "rule": "silence", "raise_at": "60"}
    assert anna.post(here, data=form).status_code == 403
    changed = {"rule": "silence", "raise_at": "60", "clear_at": "10", "pending_s": "30", "calm_s": "60"}
    with browser(fleet, name="ada") as ada:
        answer = send(ada, here, here, **changed, level="critical", enabled="on", do="change")
        assert answer.headers["location"] == f"{here}#silence"
        assert "Bad from 60 , good up to 10 minutes; fires after 30 s" in words(ada.get(here).text)
        wrong = send(ada, here, here, **{**changed, "clear_at": "90"}, level="critical", do="change")
        assert wrong.status_code == 400 and "it must clear below" in words(wrong.text)
        odd = send(ada, here, here, **{**changed, "calm_s": "soon"}, do="change")
        assert odd.status_code == 400 and "'soon' is not a number" in words(odd.text)
        assert send(ada, here, here, rule="silence", do="reset").status_code == 303
    rules = {rule["name"]: rule for rule in fleet.admin.get("/api/v1/alert-rules").json()}
    assert (rules["silence"]["raise_at"], rules["silence"]["level"]) == (15, "warning")


def test_a_rule_can_be_left_out(fleet: Running, numbers: dict[str, int]) -> None:
    here = "/console/alerts/rules"
    with browser(fleet, name="ada") as ada:
        assert send(ada, here, here, rule="clock", do="change", level="warning").status_code == 303
        assert "disabled" in words(ada.get(here).text)
        send(ada, here, here, rule="clock", do="reset")
