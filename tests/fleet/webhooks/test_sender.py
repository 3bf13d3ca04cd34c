"""Deliveries to a real receiver: it fails at first, it redirects, it is not there, it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_device import eventually
from fleet_server import Running
from webhook_receiver import Receiver, dripping, receiver

from edge_fleet.alerts.watch import Watch
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.events import EventBus
from edge_fleet.services import Services
from edge_fleet.store import Store
from edge_fleet.webhooks import rows
from edge_fleet.webhooks.retries import ATTEMPTS
from edge_fleet.webhooks.sender import Sender, open_client
from edge_fleet.webhooks.signing import secret_of, verify

SECRET = secret_of(b"k" * 32)


class Place:
    """A store, a sender and a clock that a test moves."""

    def __init__(self, store: Store) -> None:
        self.store, self.ms = store, 1_000_000_000
        self.services = Services(store, EventBus(), self, lambda: self.ms)
        self.sender = Sender(self.services, lambda _: SECRET, lambda: 0.5, timeout_s=3)

    def soon(self, devices: object) -> None:
        raise AssertionError("nobody is assigned anything")

    def add(self, url: str, *kinds: str) -> str:
        with self.store.write() as connection:
            return rows.add(connection, url, kinds, "root", self.ms)

    def tell(self, kind: str = "alert.firing", **told: Any) -> int:
        with self.store.write() as connection:
            return rows.enqueue(connection, kind, told, self.ms, about=told.get("about", ""))

    def deliver(self, later_s: float = 0) -> int:
        """One round, to its end; how many deliveries were taken."""
        self.ms += round(1000 * later_s)

        async def once() -> int:
            async with open_client() as client:
                return sum(await asyncio.gather(*await self.sender.begin(client)))

        return asyncio.run(once())

    def deliveries(self, dead: bool = False) -> list[rows.DeliveryShown]:
        with self.store.read() as connection:
            return rows.deliveries(connection, dead)


@pytest.fixture
def place(store: Store) -> Place:
    return Place(store)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def test_a_receiver_that_fails_at_first_gets_it_later_under_the_same_id(
    place: Place, there: Receiver
) -> None:
    there.answers = [500, 503]
    place.add(there.url)
    assert place.tell(rule="fork", subject="d1") == 1
    assert place.deliver() == 0
    assert place.deliver(0.5) == 0 and len(there.got) == 1, "not before its time"
    assert place.deliver(10) == 0
    assert place.deliver(20) == 1
    assert len(there.got) == 3
    assert len({head["webhook-id"] for head, _ in there.got}) == 1
    assert len({head["webhook-timestamp"] for head, _ in there.got}) == 3
    for head, body in there.got:
        assert verify(SECRET, head, body, int(head["webhook-timestamp"])) == ""
        assert json.loads(body)["type"] == "alert.firing"
        assert json.loads(body)["data"] == {"rule": "fork", "subject": "d1"}
    assert place.deliver(9999) == 0, "once is enough"
    [row] = place.deliveries()
    assert (row["attempts"], row["answer"]) == (3, "HTTP 204") and row["delivered_ms"]


def test_a_redirection_is_not_followed(place: Place, there: Receiver) -> None:
    there.answers = [307]
    place.add(there.url)
    place.tell()
    assert place.deliver() == 0
    assert len(there.got) == 1
    assert place.deliveries()[0]["answer"] == (
        "HTTP 307: redirections are not followed; add the URL that it leads to"
    )


def test_what_nobody_takes_is_given_up_shown_and_tried_again_when_asked(place: Place) -> None:
    with receiver() as gone:
        name = place.add(gone.url)
    place.tell()
    for _ in range(ATTEMPTS):
        place.deliver(4000)
    [row] = place.deliveries(dead=True)
    assert row["attempts"] == ATTEMPTS and "cannot be reached: " in row["answer"]
    assert place.deliver(99_999) == 0
    with place.store.write() as connection:
        [told] = rows.listed(connection)
        assert (told["id"], told["dead"], told["waiting"]) == (name, 1, 0)
        rows.retry(connection, row["id"], "root", place.ms)
    assert place.deliveries(dead=True) == []
    _retry_is_refused(place, row["id"], "that was given up: it waits, and is tried again by itself")
    _retry_is_refused(place, 999, "that was given up: none has this number")


def test_what_was_delivered_is_not_tried_again_when_asked(place: Place, there: Receiver) -> None:
    place.add(there.url)
    place.tell()
    assert place.deliver() == 1
    _retry_is_refused(place, place.deliveries()[0]["id"], "that was given up: it was delivered")


def _retry_is_refused(place: Place, delivery: int, why: str) -> None:
    with place.store.write() as connection, pytest.raises(NotFound, match=why):
        rows.retry(connection, delivery, "root", place.ms)


def test_the_end_of_an_alert_is_told_after_its_beginning(place: Place, there: Receiver) -> None:
    there.answers = [503]
    place.add(there.url)
    place.tell("alert.firing", about="silence d1")
    assert place.deliver() == 0
    place.tell("alert.resolved", about="silence d1")
    place.tell("alert.firing", about="silence d2")
    assert place.deliver() == 1, "another alert waits for nothing"
    assert place.deliver(20) == 1
    assert place.deliver() == 1
    told = [(json.loads(body)["type"], json.loads(body)["data"]["about"]) for _, body in there.got[1:]]
    assert told == [
        ("alert.firing", "silence d2"),
        ("alert.firing", "silence d1"),
        ("alert.resolved", "silence d1"),
    ]


def test_what_waits_behind_one_that_is_given_up_is_told(place: Place, there: Receiver) -> None:
    there.answers = [500] * ATTEMPTS
    place.add(there.url)
    place.tell("alert.firing", about="silence d1")
    place.tell("alert.resolved", about="silence d1")
    assert [place.deliver(4000) for _ in range(ATTEMPTS)] == [0] * ATTEMPTS
    assert len(place.deliveries(dead=True)) == 1
    assert place.deliver() == 1
    assert json.loads(there.got[-1][1])["type"] == "alert.resolved"


def test_a_receiver_that_is_gone_is_not_tried_again(place: Place, there: Receiver) -> None:
    there.answers = [410]
    place.add(there.url)
    place.tell()
    assert place.deliver() == 0
    [row] = place.deliveries(dead=True)
    assert (row["attempts"], row["answer"]) == (
        1,
        "HTTP 410 (Gone): not tried again; remove it, or retry once it takes them",
    )
    assert place.deliver(99_999) == 0


def test_a_receiver_that_is_away_does_not_hold_up_another(place: Place, there: Receiver) -> None:
    with receiver() as gone:
        place.add(gone.url)
    for _ in range(3):
        place.tell()
    place.add(there.url)
    for _ in range(3):
        place.tell()
    assert place.deliver() == 3
    assert [row["attempts"] for row in place.deliveries() if not row["delivered_ms"]].count(1) == 1


def test_what_waits_for_one_that_is_away_does_not_keep_out_what_waits_for_another(
    place: Place, there: Receiver
) -> None:
    with receiver() as gone:
        place.add(gone.url)
    for _ in range(100):
        place.tell()
    place.add(there.url)
    place.tell()
    assert place.deliver() == 1, "behind a hundred that nobody takes"


def test_one_that_drips_is_an_attempt_that_failed_and_holds_nobody_up(place: Place, there: Receiver) -> None:
    with dripping() as slow:
        name = place.add(slow)
        place.tell()
        place.add(there.url)
        for _ in range(3):
            place.tell()
        assert place.deliver() == 3
        [late] = [row for row in place.deliveries() if row["webhook"] == name and row["attempts"]]
        assert late["answer"] == "no answer within 3 s" and late["delivered_ms"] is None


@pytest.mark.parametrize("head", [b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000])
def test_garbage_for_an_answer_is_an_attempt_that_failed(place: Place, there: Receiver, head: bytes) -> None:
    with dripping(head) as garbage:
        place.add(garbage)
        place.tell()
        place.add(there.url)
        place.tell()
        assert place.deliver() == 1
        [failed] = [row for row in place.deliveries() if row["attempts"] and not row["delivered_ms"]]
        assert "gives no answer of HTTP: " in failed["answer"]


def test_a_name_that_no_resolver_takes_is_an_attempt_that_failed(place: Place, there: Receiver) -> None:
    name = place.add(f"http://{'a' * 70}/")
    place.tell()
    place.add(there.url)
    place.tell()
    assert place.deliver() == 1
    [failed] = [row for row in place.deliveries() if row["webhook"] == name and row["attempts"]]
    assert "cannot be reached: " in failed["answer"]


def test_only_the_kinds_that_were_asked_for_are_told(place: Place, there: Receiver) -> None:
    place.add(there.url, "alert.resolved")
    assert place.tell("alert.firing") == 0
    assert place.tell("alert.resolved") == 1


def test_a_removed_webhook_gets_nothing_any_more(place: Place, there: Receiver) -> None:
    name = place.add(there.url)
    place.tell()
    with place.store.write() as connection:
        rows.remove(connection, name, "root", place.ms)
    assert place.deliver() == 0 and there.got == []
    assert place.tell() == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "http://",
        "http://user:word@h/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "https://h/#x",
        "no url",
    ],
)
def test_a_url_that_only_a_mistake_would_name_is_refused(url: str) -> None:
    with pytest.raises(RequestInvalid):
        rows.check_url(url)


def test_an_alert_is_told_when_it_fires_and_when_it_is_over(place: Place, there: Receiver) -> None:
    from fleet_rows import FleetRows

    FleetRows(place.store, lambda: place.ms).enrol("d1")
    place.add(there.url)
    watch = Watch(place.services, lambda: True)
    watch.round(place.ms)
    place.ms += 16 * 60_000
    watch.round(place.ms)
    place.deliver()
    [(_, body)] = there.got
    told = json.loads(body)["data"]
    assert (told["rule"], told["subject"], told["phase"]) == ("silence", "d1", "firing")
    assert "16 minutes" in told["why"]


def test_a_server_at_work_delivers_what_it_is_asked_to(fleet: Running, there: Receiver) -> None:
    made = fleet.admin.post("/api/v1/webhooks", json={"url": there.url}).json()
    assert fleet.admin.post(f"/api/v1/webhooks/{made['id']}/test").status_code == 200
    head, body = eventually(lambda: there.got and there.got[0], "a delivery")
    assert verify(made["secret"], head, body, int(head["webhook-timestamp"])) == ""
    assert json.loads(body)["type"] == "test"
    listed = eventually(
        lambda: [w for w in fleet.admin.get("/api/v1/webhooks").json() if w["delivered"] == 1], "noted"
    )
    assert "secret" not in listed[0]
    with fleet.as_role("operator") as operator:
        assert operator.post("/api/v1/webhooks", json={"url": there.url}).status_code == 403
    assert fleet.admin.post("/api/v1/webhooks", json={"url": "http://169.254.1.1/"}).status_code == 400
    assert fleet.admin.post(f"/api/v1/webhooks/{made['id']}/remove").json()["removed"] is True
