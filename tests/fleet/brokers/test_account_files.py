"""Accounts of brokers as files: they come and go without cutting others, and hold what the brokers read."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_device import eventually
from running_broker import ACCOUNTS, D1, D2, SERVER, SUBSCRIBER, Running

from edge_fleet.accounts import lets_in
from edge_fleet.brokers.account_files import AccountFiles, password_line, rights
from edge_fleet.brokers.base import (
    device_account,
    server_account,
    subscriber_account,
)
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.nats import NatsBroker, subject
from edge_fleet.config import Address


def test_accounts_come_and_go_without_cutting_the_others(running: Running) -> None:
    added = device_account("f", "d3", "four")
    with running.client(D1, ["edge/v1/f/d1/ack"]) as d1, running.client(D2) as d2:
        assert not lets_in(running.broker.door, added)
        running.broker.update([SERVER, D1, SUBSCRIBER, added])
        eventually(lambda: lets_in(running.broker.door, added), "the new account")
        eventually(lambda: not lets_in(running.broker.door, D2), "the end of the old account")
        eventually(lambda: not d2.client.is_connected(), "the end of its connection")
        assert d1.client.is_connected() and running.link.is_up
        assert running.link.publish("edge/v1/f/d1/ack", b"x")
        eventually(lambda: d1.got, "a message on the connection that stayed")
    running.broker.update(ACCOUNTS)
    eventually(lambda: lets_in(running.broker.door, D2), "the account again")


def test_single_accounts_come_and_go_as_well_as_all(running: Running) -> None:
    added = [device_account("f", f"e{n}", f"secret{n}") for n in range(3)]
    with running.client(D1, ["edge/v1/f/d1/ack"]) as d1, running.client(D2) as d2:
        for account in added:
            assert running.broker.change([account, account], set())
            eventually(lambda: lets_in(running.broker.door, account), "the new account")  # noqa: B023
        with running.client(added[0], ["edge/v1/f/e0/ack", "edge/v1/f/d1/ack"]) as one:
            assert running.link.publish("edge/v1/f/e0/ack", b"mine")
            running.probe()
            eventually(lambda: one.got, "its own message")
            running.heard.clear()
            one.client.publish("edge/v1/f/e0/hello", b"x", qos=1).wait_for_publish(5)
            one.client.publish("edge/v1/f/d1/hello", b"forged", qos=1)
            eventually(lambda: running.heard, "its word")
            running.probe()
            assert [topic for topic, _ in running.heard if "hello" in topic] == ["edge/v1/f/e0/hello"]
        assert not lets_in(running.broker.door, device_account("f", "e1", "secret2"))
        if not running.broker.change([], {"d2", "e1"}):
            running.broker.update([SERVER, D1, SUBSCRIBER, added[0], added[2]])
        eventually(lambda: not lets_in(running.broker.door, added[1]), "the end of an account")
        eventually(lambda: not d2.client.is_connected(), "the end of its connection")
        assert lets_in(running.broker.door, added[2])
        assert d1.client.is_connected() and running.link.is_up
    # a subscriber's rights are its own: the list is made anew
    assert running.kind == "nats" or not running.broker.change([subscriber_account("f", "s2", "x")], set())
    running.broker.update(ACCOUNTS)
    eventually(lambda: lets_in(running.broker.door, D2), "the account again")


def test_a_list_of_users_that_was_written_by_another_is_made_anew(tmp_path: Path) -> None:
    broker = NatsBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    assert not broker.change([D1], set())  # nothing was written yet
    broker.update([SERVER])
    assert broker.change([D1], set())
    assert not broker.change([], {"d1"})
    (tmp_path / "users.conf").write_text("users: []")
    assert not broker.change([D2], set())


def test_files_without_shared_rights_are_written_whole(tmp_path: Path) -> None:
    files = AccountFiles(tmp_path, by_pattern=False)
    files.write([SERVER, D1])
    assert not files.change([D2], set())
    shared = AccountFiles(tmp_path, by_pattern=True)
    shared.write([SERVER])
    assert not shared.change([D1], set()), "no device yet: nobody knows what all of them may"
    shared.write([SERVER, D1])
    assert not shared.change([device_account("other", "d2", "two")], set())
    before = (tmp_path / "passwords").read_text()
    assert shared.change([D2, D1], set())
    after = (tmp_path / "passwords").read_text()
    assert after.startswith(before) and [line.split(":")[0] for line in after.splitlines()][2:] == ["d2"]
    assert shared.change([], {"d1"})
    assert [line.split(":")[0] for line in (tmp_path / "passwords").read_text().splitlines()] == [
        SERVER.user,
        "d2",
    ]


def test_secrets_are_in_files_of_the_owner_only(running: Running) -> None:
    folder = running.broker._folder
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        if path.is_file() and b"one" in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path


def test_subjects_of_filters_cannot_be_widened() -> None:
    assert subject("edge/v1/f/+/telemetry") == "edge.v1.f.*.telemetry"
    for bad in ("edge/v1/f/*/ack", "edge/v1/f/>/ack", "edge/v1/f.g/d/ack", "edge/v1/#", "edge//ack", "a b"):
        with pytest.raises(ValueError, match="cannot hold"):
            subject(bad)


def test_password_lines_are_those_of_mosquitto_passwd(tmp_path: Path) -> None:
    """mosquitto_passwd's own format, checked by hand against PBKDF2 of another implementation."""
    from base64 import b64decode

    from cryptography.hazmat.primitives.hashes import SHA512
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    user, _, rest = password_line("d1", "secret").rstrip("\n").partition(":")
    _, kind, rounds, salt, hashed = rest.split("$")
    assert (user, kind, rounds) == ("d1", "7", "1")
    derived = PBKDF2HMAC(SHA512(), 64, b64decode(salt), int(rounds)).derive(b"secret")
    assert derived == b64decode(hashed)
    assert password_line("d1", "secret") != password_line("d1", "secret")


def test_rights_are_shared_by_devices_unless_certificates_let_them_in() -> None:
    """A revoked device's certificate is good until its connection ends: it must have no rights left."""
    accounts = [server_account("f", "s"), *(device_account("f", f"d{n}", "p") for n in range(3))]
    shared, own = (rights(accounts, by_pattern).splitlines() for by_pattern in (True, False))
    assert "pattern write edge/v1/f/%u/telemetry" in shared
    assert not any("d1" in line for line in shared)
    assert not any(line.startswith("pattern") for line in own)
    assert own.count("topic read edge/v1/f/d1/ack") == 1
