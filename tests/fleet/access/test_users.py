from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from fleet_server import Running, client
from sqlalchemy import select, update

from edge_fleet.access import passwords, users
from edge_fleet.access.logins import FREE, LONGEST_WAIT_MS, Patience
from edge_fleet.access.passwords import UNKNOWN, hash_password, matches, require_good
from edge_fleet.access.user_cli import user as commands
from edge_fleet.auth import IDLE_MS, Role, authenticate, make_token
from edge_fleet.errors import Conflict, RequestInvalid, TooManyAttempts, Unauthorized
from edge_fleet.schema import tokens
from edge_fleet.schema import users as table
from edge_fleet.store import Store, open_store

GOOD = "correct horse battery"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """SQLite: what is asked here is not the dialect's affair."""
    opened = open_store(f"sqlite:///{tmp_path / 'fleet.db'}")
    yield opened
    opened.close()


def _user(fleet: Running, name: str, role: str = "operator") -> None:
    answer = fleet.admin.post("/api/v1/users", json={"name": name, "role": role, "password": GOOD})
    assert answer.status_code == 201, answer.text


def _login(fleet: Running, name: str, password: str = GOOD) -> httpx.Response:
    return fleet.http.post("/api/v1/login", json={"name": name, "password": password})


def test_a_password_is_kept_as_scrypt_of_another_implementation() -> None:
    import base64
    import hashlib

    _, log_n, r, p, salt, expected = hash_password(GOOD).split("$")
    derived = hashlib.scrypt(
        GOOD.encode(),
        salt=base64.b64decode(salt),
        n=1 << int(log_n),
        r=int(r),
        p=int(p),
        dklen=32,
        maxmem=1 << 27,
    )
    assert base64.b64encode(derived).decode() == expected


def test_only_the_password_itself_matches_and_salts_differ() -> None:
    stored = hash_password(GOOD)
    assert stored != hash_password(GOOD)
    assert matches(GOOD, stored)
    for wrong in (GOOD[:-1], GOOD + " ", GOOD.upper(), ""):
        assert not matches(wrong, stored)
    assert not matches(GOOD, "") and not matches("", "") and not matches(GOOD, UNKNOWN)


def test_a_name_that_is_not_known_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not timed: the same parameters go into the same function."""
    asked: list[tuple[int, ...]] = []
    real = passwords._scrypt

    def counted(salt: bytes, *cost: int) -> object:
        asked.append((len(salt), *cost))
        return real(salt, *cost)

    stored = hash_password(GOOD)
    monkeypatch.setattr(passwords, "_scrypt", counted)
    matches("x", stored)
    matches("x", "")
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    "password", ["short", "a" * 20, "abababababab", "x" + "é" * 300, "ada-lovelace", "adaadaadaada1234", ""]
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(RequestInvalid):
        require_good(password, "ada")


def test_a_name_within_a_long_password_is_no_fault_of_it() -> None:
    require_good("canada-maple-and-lakes", "ada")
    with pytest.raises(RequestInvalid, match="without the user's name has 9 characters, expected 12"):
        require_good("ada-lovelace", "Ada")


def test_the_wait_doubles_and_is_bounded() -> None:
    patience, now_ms, waits = Patience(), 1_000_000, []
    for _ in range(FREE + 9):
        patience.begin("ada", now_ms)
        with_wait = patience._failures["ada"].until_ms
        waits.append(max(0, with_wait - now_ms))
        now_ms = max(now_ms, with_wait)
    assert waits[: FREE - 1] == [0] * (FREE - 1)
    assert waits[FREE - 1 :][:7] == [1000, 2000, 4000, 8000, 16000, 32000, 60000]
    assert waits[-1] == LONGEST_WAIT_MS


def test_guesses_while_waiting_are_not_looked_at_and_do_not_lengthen_the_wait() -> None:
    patience = Patience()
    for _ in range(FREE):
        patience.begin("ada", 0)
    for at_ms in (0, 500, 999):
        with pytest.raises(TooManyAttempts, match="wait 1 s") as refusal:
            patience.begin("ada", at_ms)
        assert refusal.value.retry_s == 1
    patience.begin("bob", 0)
    patience.begin("ada", 1000)
    patience.succeeded("ada")
    patience.begin("ada", 1001)


def test_names_without_end_do_not_fill_the_memory() -> None:
    patience = Patience()
    for n in range(12_000):
        patience.begin(f"n{n}", 0)
    assert len(patience._failures) == 10_000


def test_a_user_logs_in_and_may_what_the_role_may(fleet: Running) -> None:
    _user(fleet, "ada")
    answer = _login(fleet, "ada")
    assert answer.status_code == 200 and answer.json()["role"] == "operator"
    with client(fleet.url, answer.json()["token"]) as ada:
        assert ada.post("/api/v1/tokens", json={}).status_code == 201
        assert ada.get("/api/v1/users").status_code == 403
    newest = fleet.admin.get("/api/v1/audit").json()[0]
    assert (newest["actor"], newest["action"]) == ("ada", "token made"), "deeds are the person's"


def test_all_failures_sound_alike(fleet: Running) -> None:
    _user(fleet, "bob")
    _user(fleet, "gone")
    assert fleet.admin.post("/api/v1/users/gone", json={"disabled": True}).status_code == 200
    answers = [_login(fleet, "bob", "wrong"), _login(fleet, "nobody"), _login(fleet, "gone")]
    answers.append(_login(fleet, "bob\x00' OR 1=1"))
    assert [answer.status_code for answer in answers] == [401] * 4
    assert len({answer.text for answer in answers}) == 1


def test_a_guesser_waits_and_is_told_how_long(fleet: Running) -> None:
    _user(fleet, "carl")
    for _ in range(FREE):
        assert _login(fleet, "carl", "wrong").status_code == 401
    answer = _login(fleet, "carl")
    assert answer.status_code == 429, "even the right password is not looked at"
    assert answer.headers["Retry-After"] == "1"
    assert _login(fleet, "ada2").status_code == 401, "others do not wait"


def test_a_role_that_was_taken_away_holds_at_once(fleet: Running) -> None:
    _user(fleet, "dora", "admin")
    session, token = _login(fleet, "dora").json()["token"], fleet.token("admin", user="dora")
    with client(fleet.url, session) as console, client(fleet.url, token) as program:
        for dora in (console, program):
            assert dora.get("/api/v1/users").status_code == 200
        fleet.admin.post("/api/v1/users/dora", json={"role": "viewer"})
        assert console.get("/api/v1/devices").status_code == 401, "sessions end"
        assert program.get("/api/v1/users").status_code == 403, "tokens may no more than their user"
        assert program.get("/api/v1/devices").status_code == 200


def test_a_user_who_is_disabled_is_out_with_every_session_and_token(fleet: Running) -> None:
    _user(fleet, "eve")
    session = _login(fleet, "eve").json()["token"]
    token = fleet.token("operator", user="eve")
    fleet.admin.post("/api/v1/users/eve", json={"disabled": True})
    for secret in (session, token):
        with client(fleet.url, secret) as who:
            assert who.get("/api/v1/devices").status_code == 401
    fleet.admin.post("/api/v1/users/eve", json={"disabled": False})
    with client(fleet.url, session) as who:
        assert who.get("/api/v1/devices").status_code == 401, "a session does not come back"
    with client(fleet.url, token) as who:
        assert who.get("/api/v1/devices").status_code == 200


def test_a_new_password_ends_the_sessions(fleet: Running) -> None:
    _user(fleet, "fay")
    sessions = [_login(fleet, "fay").json()["token"] for _ in range(2)]
    with client(fleet.url, sessions[0]) as fay:
        wrong = fay.post("/api/v1/password", json={"before": "x", "after": GOOD + "2"})
        assert wrong.status_code == 403
        assert fay.post("/api/v1/password", json={"before": GOOD, "after": GOOD + "2"}).status_code == 200
    for secret in sessions:
        with client(fleet.url, secret) as who:
            assert who.get("/api/v1/devices").status_code == 401
    assert _login(fleet, "fay").status_code == 401
    assert _login(fleet, "fay", GOOD + "2").status_code == 200


def test_a_session_is_over_when_unused_and_at_the_end_of_the_day(store: Store) -> None:
    with store.write() as connection:
        users.add(connection, "ada", Role.VIEWER, "", "x", 0)
        day = 12 * IDLE_MS
        session = make_token(connection, Role.VIEWER, "", 0, day, owner="ada", is_session=True)
        assert authenticate(connection, session.secret, IDLE_MS - 1).user == "ada"
        with pytest.raises(Unauthorized, match="not used for long"):
            authenticate(connection, session.secret, IDLE_MS)
        connection.execute(update(tokens).values(last_used_ms=day - 1))
        with pytest.raises(Unauthorized, match="expired"):
            authenticate(connection, session.secret, day)


def test_using_a_session_keeps_it(fleet: Running) -> None:
    _user(fleet, "gil")
    token = _login(fleet, "gil").json()["token"]
    old_ms = time.time_ns() // 1_000_000 - IDLE_MS // 2
    with fleet.server.store.write() as connection:
        connection.execute(update(tokens).where(tokens.c.owner == "gil").values(last_used_ms=old_ms))
    with client(fleet.url, token) as who:
        assert who.get("/api/v1/devices").status_code == 200
    with fleet.server.store.read() as connection:
        used_ms = connection.execute(
            select(tokens.c.last_used_ms).where(tokens.c.owner == "gil")
        ).scalar_one()
    assert used_ms > old_ms + IDLE_MS // 4


def test_the_console_lets_users_in_with_a_new_cookie_each_time(fleet: Running) -> None:
    _user(fleet, "hal")
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        planted = "admin-planted"
        browser.cookies.set("edgefleet_token", planted)
        cookies = []
        for _ in range(2):
            answer = browser.post("/console/login", data={"name": "hal", "password": GOOD})
            assert answer.status_code == 303, answer.text
            flags = answer.headers["set-cookie"].lower()
            assert "httponly" in flags and "samesite=strict" in flags
            cookies.append(answer.cookies["edgefleet_token"])
            browser.cookies.clear()
            browser.cookies.set("edgefleet_token", cookies[-1])
        assert len({planted, *cookies}) == 3
        assert browser.get("/console").status_code == 200
        browser.cookies.clear()
        browser.cookies.set("edgefleet_token", cookies[0])
        assert browser.get("/console").status_code == 303, "the session before is over"
        assert browser.post("/console/login", data={"name": "hal", "password": "no"}).status_code == 401


def test_names_are_not_used_twice_and_passwords_are_not_shown(fleet: Running) -> None:
    _user(fleet, "ivy")
    again = fleet.admin.post("/api/v1/users", json={"name": "ivy", "role": "admin", "password": GOOD})
    assert again.status_code == 409
    with fleet.server.store.read() as connection:
        stored = connection.execute(select(table.c.password).where(table.c.name == "ivy")).scalar_one()
    assert stored.startswith("scrypt$")
    assert stored not in fleet.admin.get("/api/v1/users").text
    assert GOOD not in fleet.admin.get("/api/v1/audit").text


@pytest.mark.parametrize("role", ["enrol", "subscriber"])
def test_a_person_has_no_role_of_a_device(fleet: Running, store: Store, role: str) -> None:
    answer = fleet.admin.post("/api/v1/users", json={"name": "x", "role": role, "password": GOOD})
    assert answer.status_code == 400
    with store.write() as connection:
        users.add(connection, "y", Role.VIEWER, "", "x", 0)
        with pytest.raises(Conflict):
            users.add(connection, "y", Role.VIEWER, "", "x", 0)


def test_users_from_the_command_line(fleet: Running) -> None:
    token = fleet.server.home.admin_token.read_text().strip()
    where = ["--server", fleet.url, "--token", token]
    runner = CliRunner()
    added = runner.invoke(commands, ["add", "joe", "--role", "approver", *where], input=GOOD + "\n")
    assert added.exit_code == 0 and "added joe, approver" in added.output, added.output
    logged_in = runner.invoke(commands, ["login", "joe", "--server", fleet.url], input=GOOD + "\n")
    with client(fleet.url, logged_in.output.strip()) as joe:
        assert joe.get("/api/v1/devices").status_code == 200
    changed = runner.invoke(commands, ["set", "joe", "--disable", *where])
    assert "joe: approver, disabled" in changed.output
    assert "joe" in runner.invoke(commands, ["list", *where]).output
