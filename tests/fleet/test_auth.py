from __future__ import annotations

import pytest

from edge_fleet.auth import (
    IDLE_MS,
    RIGHTS,
    Attempts,
    Principal,
    Right,
    Role,
    authenticate,
    find_token,
    is_stale,
    make_token,
    used,
)
from edge_fleet.errors import Unauthorized
from edge_fleet.store import Store


@pytest.mark.parametrize("role", list(Role))
def test_every_role_has_its_rights_written_down(role: Role) -> None:
    assert role in RIGHTS


def test_only_an_admin_administers_and_nobody_else_does_everything() -> None:
    assert {role for role in Role if Principal("x", role).may(Right.ADMIN)} == {Role.ADMIN}
    assert not Principal("x", Role.OPERATOR).may(Right.PUBLISH)
    assert not Principal("x", Role.PUBLISHER).may(Right.OPERATE)
    assert not Principal("x", Role.SUBSCRIBER).may(Right.READ)


def test_a_token_is_known_until_it_expires(store: Store) -> None:
    with store.write() as connection:
        token = make_token(connection, Role.VIEWER, "desk", 1_000, expires_ms=2_000)
        assert authenticate(connection, token.secret, 1_999).role is Role.VIEWER
        with pytest.raises(Unauthorized, match="expired"):
            authenticate(connection, token.secret, 2_000)


def test_tokens_differ_and_a_part_of_one_is_nothing(store: Store) -> None:
    with store.write() as connection:
        first, second = (make_token(connection, Role.VIEWER, "", 1) for _ in range(2))
        assert first.secret != second.secret
        for wrong in (first.secret[:-1], first.secret + "x", first.secret.upper(), first.id, ""):
            with pytest.raises(Unauthorized, match="not known"):
                find_token(connection, wrong, 1)


def test_failures_count_by_address_and_minute() -> None:
    attempts = Attempts()
    told = [attempts.failed("a", 60_000) for _ in range(Attempts.PER_MINUTE + 2)]
    assert told == [False] * Attempts.PER_MINUTE + [True, True]
    assert not attempts.failed("b", 60_000)
    assert not attempts.failed("a", 120_000)


def test_failures_count_until_their_minute_is_over() -> None:
    attempts = Attempts()
    now_ms = 1_767_225_600_000  # 2026-01-01, 00:00 UTC
    told = [attempts.failed("a", now_ms + 1_900 * n) for n in range(Attempts.PER_MINUTE + 1)]
    assert told == [False] * Attempts.PER_MINUTE + [True], "the last one at 57 s"
    assert attempts.failed("a", now_ms + 59_999)
    assert not attempts.failed("a", now_ms + 60_000)


def test_a_session_that_is_used_lives_on_and_no_other_does(store: Store) -> None:
    with store.write() as connection:
        mine, other = (make_token(connection, Role.VIEWER, "", 0, is_session=True) for _ in range(2))
        who = authenticate(connection, mine.secret, IDLE_MS - 1)
        assert not is_stale(who, 59_999) and is_stale(who, 60_000)
        used(connection, who, IDLE_MS - 1)
        assert authenticate(connection, mine.secret, IDLE_MS).last_used_ms == IDLE_MS - 1
        with pytest.raises(Unauthorized, match="was not used for long"):
            authenticate(connection, other.secret, IDLE_MS)
        with pytest.raises(Unauthorized, match="was not used for long"):
            authenticate(connection, mine.secret, 2 * IDLE_MS - 1)


def test_a_scan_from_many_addresses_does_not_fill_the_memory() -> None:
    attempts = Attempts()
    for n in range(12_000):
        attempts.failed(f"address-{n}", 60_000)
    assert len(attempts._failures) == 10_000
