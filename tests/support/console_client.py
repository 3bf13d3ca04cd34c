"""Somebody at the console without a browser: logs in, reads pages, sends their forms. No tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from html.parser import HTMLParser

import httpx
from fleet_server import Running

PASSWORD = "a long word for tests 7"


@contextmanager
def browser(fleet: Running, token: str = "", name: str = "") -> Iterator[httpx.Client]:
    """Somebody who has logged in, by a token or by a name (of `person`)."""
    with httpx.Client(base_url=fleet.url, trust_env=False, timeout=30) as found:
        form = {"name": name, "password": PASSWORD} if name else {"token": token}
        answer = found.post("/console/login", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console"), answer.text
        yield found


def person(fleet: Running, name: str, role: str) -> str:
    """Make a user; the name."""
    body = {"name": name, "role": role, "password": PASSWORD}
    answer = fleet.admin.post("/api/v1/users", json=body)
    assert answer.status_code == 201, answer.text
    return name


def csrf(page: str) -> str:
    """The secret of the session, as a form has it."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def send(who: httpx.Client, page: str, path: str, **fields: str) -> httpx.Response:
    """Read a page, then send a form of it; what hidden fields it has is sent along."""
    text = who.get(page).text
    hidden = Form(text, path).hidden
    return who.post(path, data={**hidden, **fields})


def words(text: str) -> str:
    """A page without its tags and with single blanks."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


class Form(HTMLParser):
    """The hidden fields of the form that leads to a path."""

    def __init__(self, page: str, path: str) -> None:
        super().__init__()
        self.hidden: dict[str, str] = {}
        self._path, self._inside, self.found = path, False, False
        self.feed(page)
        assert self.found, f"no form leads to {path}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form":
            self._inside = found.get("action") == self._path and found.get("method") == "post"
            self.found = self.found or self._inside
        if self._inside and tag == "input" and found.get("type") == "hidden":
            self.hidden[str(found["name"])] = found.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
