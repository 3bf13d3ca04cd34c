"""Visiting the console without a browser: logging in, and what a page refers to. No tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

import httpx
from fleet_rows import FITS, WRONG, FleetRows, digest
from fleet_server import Running
from sqlalchemy import insert, update

from edge_fleet import schema
from edge_fleet.standings.work import Standings


def settle(fleet: Running) -> None:
    """Have every device's standing worked out now, instead of in a second."""
    Standings(fleet.server).catch_up(fleet.server.now_ms())


def furnish(fleet: Running) -> FleetRows:
    """Four devices that differ, and a release that runs on them."""
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    built.publish("1", "arm-cpu", "intel-npu")
    built.publish("2")
    built.enrol("cam-0", "cam-1", "cam-2", profile=("raspberry-pi-4", "arm-cpu"), site="lab")
    built.enrol("cam-yard", site="<script>alert(1)</script>")
    active = {
        "bundle": digest("1"),
        "name": "digits",
        "version": "1",
        "artifact": "int8",
        "runtime": "litert 2.3.0",
        "fallback": "no Edge TPU found",
    }
    state = {"active": active, "counter": 1, "agent": "0.1.0", "next_seq": 5}
    with fleet.server.store.write() as connection:
        connection.execute(update(schema.devices).values(state=state))
        silent = fleet.server.now_ms() - 3_600_000
        connection.execute(
            update(schema.devices).where(schema.devices.c.id == "cam-2").values(last_seen_ms=silent)
        )
        connection.execute(
            insert(schema.refusals).values(
                reason="signature-invalid", device="cam-0", count=3, last_ms=silent, detail="forged"
            )
        )
    built.report("cam-0", digest("1"), scalars={"input:x:mean": FITS})
    built.report("cam-1", digest("1"), scalars={"input:x:mean": WRONG})
    settle(fleet)
    return built


@contextmanager
def visitor(fleet: Running, token: str) -> Iterator[httpx.Client]:
    """Somebody with a browser who has logged in."""
    with httpx.Client(base_url=fleet.url, trust_env=False, timeout=30) as found:
        answer = found.post("/console/login", data={"token": token})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        yield found


def csrf(page: str) -> str:
    """The secret of a page's forms."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


class References(HTMLParser):
    """Every address that a page refers to, and everything that a strict policy would block."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.fields: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [v for k, v in attrs if k in ("href", "src", "action", "formaction") and v]
        self.links += [v for k, v in attrs if k in ("href", "src") and v]
        self.inline += [k for k in found if k.startswith("on") or k == "style"]
        self.ids += [v for k, v in attrs if k == "id" and v]
        if tag == "style" or (tag == "script" and "src" not in found):
            self.inline.append(tag)
        if tag == "label" and found.get("for"):
            self.labels.add(str(found["for"]))
        if tag in ("input", "select", "textarea") and found.get("type") != "hidden":
            self.fields.append(str(found.get("id")))
