"""Sessions: their secret changes, they can be seen and ended, and nothing that they opened outlives them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from fleet_server import Running, client
from sqlalchemy import select, update

from edge_fleet.access import sessions, users
from edge_fleet.access.sessions import ROTATE_MS
from edge_fleet.access.user_cli import user as commands
from edge_fleet.api.access import COOKIE
from edge_fleet.auth import GRACE_MS, IDLE_MS, Principal, Role, authenticate, make_token
from edge_fleet.errors import NotFound, Unauthorized
from edge_fleet.schema import tokens
from edge_fleet.store import Store, open_store

GOOD = "correct horse battery"
DAY_MS = 12 * 3600_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'fleet.db'}")
    with opened.write() as connection:
        for name in ("ada", "bob"):
            users.add(connection, name, Role.VIEWER, "", "x", 0)
    yield opened
    opened.close()


def _opened(store: Store, name: str, at_ms: int = 0) -> str:
    with store.write() as connection:
        made = make_token(
            connection,
            Role.VIEWER,
            "",
            at_ms,
            at_ms + DAY_MS,
            owner=name,
            is_session=True,
            client="192.0.2.7",
        )
    return made.secret


def _who(store: Store, secret: str, now_ms: int) -> Principal:
    with store.read() as connection:
        return authenticate(connection, secret, now_ms)


def test_a_secret_that_has_served_is_replaced_and_the_old_one_ends(store: Store) -> None:
    old = _opened(store, "ada")
    who = _who(store, old, 1)
    with store.write() as connection:
        assert sessions.rotate(connection, who, ROTATE_MS - 1) is None
        new = sessions.rotate(connection, who, ROTATE_MS)
    assert new is not None and new.secret != old
    assert new.expires_ms == DAY_MS, "the day does not begin anew"
    assert _who(store, new.secret, ROTATE_MS).session == who.session
    assert _who(store, old, ROTATE_MS + GRACE_MS - 1).session == who.session
    with pytest.raises(Unauthorized, match="another secret since"):
        _who(store, old, ROTATE_MS + GRACE_MS)


def test_an_answer_that_got_lost_costs_nothing_but_the_grace_is_not_lengthened(store: Store) -> None:
    old = _opened(store, "ada")
    with store.write() as connection:
        first = sessions.rotate(connection, _who(store, old, 1), ROTATE_MS)
        second = sessions.rotate(connection, _who(store, old, 1), ROTATE_MS + GRACE_MS - 1)
    assert first and second
    with pytest.raises(Unauthorized):
        _who(store, old, ROTATE_MS + GRACE_MS)
    assert (
        _who(store, second.secret, ROTATE_MS + GRACE_MS).session
        == _who(store, first.secret, ROTATE_MS).session
    )


def test_a_token_that_is_no_session_keeps_its_secret(store: Store) -> None:
    with store.write() as connection:
        token = make_token(connection, Role.VIEWER, "", 0)
        who = authenticate(connection, token.secret, 1)
        assert sessions.rotate(connection, who, DAY_MS) is None


def test_one_sees_ones_own_sessions_and_an_admin_everybodys(store: Store) -> None:
    ada, bob = _who(store, _opened(store, "ada"), 1), _who(store, _opened(store, "bob", 5), 5)
    with store.write() as connection:
        admin = authenticate(connection, make_token(connection, Role.ADMIN, "", 0).secret, 1)
    with store.read() as connection:
        (own,) = sessions.listed(connection, ada, 10)
        assert (own.name, own.mine, own.client, own.expires_ms) == ("ada", True, "192.0.2.7", DAY_MS)
        assert [one.name for one in sessions.listed(connection, bob, 10)] == ["bob"]
        everybodys = sessions.listed(connection, admin, 10)
    assert [(one.name, one.mine) for one in everybodys] == [("bob", False), ("ada", False)]


def test_a_session_is_listed_once_whatever_its_secrets_and_not_when_it_is_over(store: Store) -> None:
    ada = _who(store, _opened(store, "ada"), 1)
    with store.write() as connection:
        assert sessions.rotate(connection, ada, ROTATE_MS)
    with store.read() as connection:
        (one,) = sessions.listed(connection, ada, ROTATE_MS)
        assert (one.opened_ms, one.last_used_ms) == (0, ROTATE_MS)
        assert sessions.listed(connection, ada, ROTATE_MS + IDLE_MS) == []


def test_nobody_ends_a_session_of_somebody_else(store: Store) -> None:
    ada, bob = _who(store, _opened(store, "ada"), 1), _who(store, _opened(store, "bob"), 1)
    with store.write() as connection, pytest.raises(NotFound, match="no open session"):
        sessions.end(connection, ada.session, bob, 2)
    with store.write() as connection, pytest.raises(NotFound):
        sessions.end(connection, "nothing", bob, 2)
    with store.write() as connection:
        sessions.end(connection, ada.session, ada, 2)
    with store.read() as connection:
        assert sessions.listed(connection, ada, 3) == []


@pytest.mark.parametrize("change", [{"role": Role.OPERATOR}, {"hashed": "scrypt$x"}, {"disabled": True}])
def test_a_change_of_role_password_or_state_ends_every_session_with_every_secret(
    store: Store, change: dict[str, object]
) -> None:
    first, second, other = _opened(store, "ada"), _opened(store, "ada"), _opened(store, "bob")
    with store.write() as connection:
        renewed = sessions.rotate(connection, _who(store, first, 1), ROTATE_MS)
        assert renewed
        users.change(connection, "ada", "x", ROTATE_MS + 1, **change)  # type: ignore[arg-type]
    for secret in (first, second, renewed.secret):
        with pytest.raises(Unauthorized):
            _who(store, secret, ROTATE_MS + 2)
    assert _who(store, other, ROTATE_MS + 2).user == "bob"


def test_a_change_that_changes_nothing_ends_nothing(store: Store) -> None:
    secret = _opened(store, "ada")
    with store.write() as connection:
        users.change(connection, "ada", "x", 1, role=Role.VIEWER, disabled=False)
    assert _who(store, secret, 2).user == "ada"


def _user(fleet: Running, name: str, role: str = "operator") -> None:
    answer = fleet.admin.post("/api/v1/users", json={"name": name, "role": role, "password": GOOD})
    assert answer.status_code == 201, answer.text


def _login(fleet: Running, name: str) -> str:
    answer = fleet.http.post("/api/v1/login", json={"name": name, "password": GOOD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def test_the_console_puts_the_new_secret_into_the_cookie_and_its_forms_stay_good(fleet: Running) -> None:
    _user(fleet, "ann")
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        browser.post("/console/login", data={"name": "ann", "password": GOOD})
        old = browser.cookies[COOKIE]
        csrf = browser.get("/console").text.split('name="csrf" value="')[1].split('"')[0]
        assert browser.cookies[COOKIE] == old
        now_ms = fleet.server.now_ms()
        with fleet.server.store.write() as connection:
            connection.execute(
                update(tokens)
                .where(tokens.c.owner == "ann")
                .values(created_ms=now_ms - ROTATE_MS, last_used_ms=now_ms - 60_000)
            )
        answer = browser.get("/console")
        flags = answer.headers["set-cookie"].lower()
        assert "httponly" in flags and "samesite=strict" in flags
        assert browser.cookies[COOKIE] != old
        left = browser.post("/console/logout", data={"csrf": csrf})
        assert left.status_code == 303, "the page of before can still be sent"
    with client(fleet.url, old) as thief:
        assert thief.get("/api/v1/devices").status_code == 401, "logging out ends the secrets of before too"


def test_sessions_over_http_and_from_the_command_line(fleet: Running) -> None:
    for name in ("cat", "dan"):
        _user(fleet, name)
    first, second, dans = _login(fleet, "cat"), _login(fleet, "cat"), _login(fleet, "dan")
    with client(fleet.url, first) as cat, client(fleet.url, dans) as dan:
        own = cat.get("/api/v1/sessions").json()
        assert {one["name"] for one in own} == {"cat"} and len(own) == 2
        assert all(one["client"] == "127.0.0.1" for one in own)
        (mine,) = (one for one in own if one["mine"])
        (other,) = (one for one in own if not one["mine"])
        assert dan.post(f"/api/v1/sessions/{mine['id']}/end").status_code == 404
        assert cat.post(f"/api/v1/sessions/{other['id']}/end").status_code == 200
        assert cat.get("/api/v1/devices").status_code == 200
        assert dan.post("/api/v1/users/cat/logout").status_code == 403
    with client(fleet.url, second) as ended:
        assert ended.get("/api/v1/devices").status_code == 401
    token = fleet.server.home.admin_token.read_text().strip()
    where = ["--server", fleet.url, "--token", token]
    runner = CliRunner()
    shown = runner.invoke(commands, ["sessions", *where])
    assert "cat" in shown.output and "dan" in shown.output and "127.0.0.1" in shown.output
    assert f"ended {mine['id']}" in runner.invoke(commands, ["end", mine["id"], *where]).output
    assert "ended 1 of dan" in runner.invoke(commands, ["end", "--all-of", "dan", *where]).output
    assert runner.invoke(commands, ["end", *where]).exit_code == 2
    for secret in (first, dans):
        with client(fleet.url, secret) as who:
            assert who.get("/api/v1/devices").status_code == 401
    deeds = [(row["action"], row["subject"]) for row in fleet.admin.get("/api/v1/audit").json()[:2]]
    assert deeds == [("sessions ended", "dan"), ("session ended", mine["id"])]


def _quick(fleet: Running, name: str) -> str:
    """A user without a password, which takes a tenth of a second to hash, and a session."""
    now_ms = fleet.server.now_ms()
    with fleet.server.store.write() as connection:
        users.add(connection, name, Role.OPERATOR, "", "x", now_ms)
        made = make_token(connection, Role.OPERATOR, "", now_ms, now_ms + DAY_MS, owner=name, is_session=True)
    return made.secret


@dataclass
class Stream:
    """Somebody who listens in a thread of their own."""

    url: str
    headers: dict[str, str]
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    status: int = 0

    def run(self) -> None:
        with httpx.stream("GET", self.url, headers=self.headers, timeout=30, trust_env=False) as answer:
            self.status = answer.status_code
            self.began.set()
            for _ in answer.iter_bytes():
                pass
        self.ended.set()


def _streams(fleet: Running, secret: str, cookie: bool) -> list[Stream]:
    headers = {"Cookie": f"{COOKIE}={secret}"} if cookie else {"Authorization": f"Bearer {secret}"}
    found = [Stream(fleet.url + path, headers) for path in ("/api/v1/events", "/api/v1/telemetry")]
    for stream in found:
        threading.Thread(target=stream.run, daemon=True).start()
        assert stream.began.wait(20)
        assert stream.status == 200
    return found


def _set(fleet: Running, secret: str, **values: int) -> None:
    import hashlib

    with fleet.server.store.write() as connection:
        hashed = hashlib.sha256(secret.encode()).hexdigest()
        assert (
            connection.execute(update(tokens).where(tokens.c.hash == hashed).values(**values)).rowcount == 1
        )


def _id(fleet: Running, secret: str) -> str:
    with fleet.server.store.read() as connection:
        return authenticate(connection, secret, fleet.server.now_ms()).token


def _user_set(**body: object) -> Callable[[Running, str, str], None]:
    return lambda fleet, name, secret: fleet.admin.post(f"/api/v1/users/{name}", json=body).raise_for_status()  # type: ignore[return-value]


OF_A_SESSION: dict[str, Callable[[Running, str, str], None]] = {
    "role lowered": _user_set(role="viewer"),
    "disabled": _user_set(disabled=True),
    "password changed": _user_set(password=GOOD + " 2"),
    "ended by an admin": lambda fleet, name, secret: fleet.admin.post(  # type: ignore[dict-item]
        f"/api/v1/sessions/{_id(fleet, secret)}/end"
    ).raise_for_status(),
    "not used for an hour": lambda fleet, name, secret: _set(
        fleet, secret, last_used_ms=fleet.server.now_ms() - IDLE_MS
    ),
    "day over": lambda fleet, name, secret: _set(fleet, secret, expires_ms=fleet.server.now_ms()),
}
OF_A_TOKEN: dict[str, Callable[[Running, str, str], None]] = {
    "revoked": lambda fleet, name, secret: fleet.admin.post(  # type: ignore[dict-item]
        f"/api/v1/tokens/{_id(fleet, secret)}/revoke"
    ).raise_for_status(),
    "expired": lambda fleet, name, secret: _set(fleet, secret, expires_ms=fleet.server.now_ms()),
    "its user's role lowered": _user_set(role="viewer"),
    "its user disabled": _user_set(disabled=True),
}


def test_no_stream_outlives_the_rights_of_who_opened_it(fleet: Running) -> None:
    """All at once, since each takes the two seconds between two looks."""
    opened: dict[str, list[Stream]] = {}
    ends: list[tuple[Callable[[Running, str, str], None], str, str]] = []
    for n, (why, change) in enumerate(OF_A_SESSION.items()):
        secret = _quick(fleet, f"s{n}")
        opened[f"session, {why}"] = _streams(fleet, secret, cookie=n % 2 == 0)
        ends.append((change, f"s{n}", secret))
    for n, (why, change) in enumerate(OF_A_TOKEN.items()):
        _quick(fleet, f"t{n}")
        secret = fleet.token("operator", user=f"t{n}")
        opened[f"token, {why}"] = _streams(fleet, secret, cookie=False)
        ends.append((change, f"t{n}", secret))
    unharmed = _streams(fleet, fleet.token("viewer"), cookie=False)
    assert not any(stream.ended.is_set() for streams in opened.values() for stream in streams)
    for change, name, secret in ends:
        change(fleet, name, secret)
    for why, streams in opened.items():
        for stream in streams:
            assert stream.ended.wait(30), f"{stream.url} goes on: {why}"
    assert not any(stream.ended.is_set() for stream in unharmed)


def test_a_console_that_got_another_secret_keeps_its_stream(fleet: Running) -> None:
    _user(fleet, "eve")
    secret = _login(fleet, "eve")
    streams = _streams(fleet, secret, cookie=True)
    with fleet.server.store.write() as connection:
        who = authenticate(connection, secret, fleet.server.now_ms())
        later = fleet.server.now_ms()
        connection.execute(
            update(tokens).where(tokens.c.id == who.token).values(created_ms=later - ROTATE_MS)
        )
        assert sessions.rotate(connection, who, later)
        connection.execute(
            update(tokens).where(tokens.c.id == who.token).values(replaced_ms=later - GRACE_MS)
        )
    gone = _streams(fleet, fleet.token("viewer", expires_s=1), cookie=False)
    assert all(stream.ended.wait(30) for stream in gone), "a look has been taken"
    assert not any(stream.ended.is_set() for stream in streams)
    with fleet.server.store.read() as connection:
        rows = connection.execute(select(tokens.c.id).where(tokens.c.session == who.session)).all()
    assert len(rows) == 2
