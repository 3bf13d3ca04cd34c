"""Enrolling with a real HTTP server: keys, tokens, and what is left when it breaks off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_fleet import TOKEN, TinyFleet

from edge_agent.device.config import read_config, read_device_key, trust, trusted_publishers
from edge_agent.device.enrol import enrol
from edge_agent.device.home import Home
from edge_agent.device.http import host_of
from edge_agent.errors import AlreadyEnrolled, HomeInvalid, ServerRefused, ServerUnreachable
from edge_agent.updates.slots import Held, Slot, Slots
from edge_agent.updates.store import Store
from edge_contracts.keys import PrivateKey
from edge_contracts.model import canonical_json

BUNDLE = "sha256:" + "1" * 64


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[TinyFleet]:
    """Its HTTP side alone: enrolling needs no broker."""
    made = TinyFleet(tmp_path)
    made.serve_http()
    yield made
    made.stop()


def test_an_enrolled_device_knows_its_fleet_and_keeps_its_secrets(home: Home, fleet: TinyFleet) -> None:
    config = enrol(home, fleet.url + "/", TOKEN, "raspberry-pi-4", "cam-7", {"site": "north"})
    assert read_config(home) == config
    assert (config.device, config.server) == ("cam-7", fleet.url)
    assert config.lineage == ("raspberry-pi-4", "arm-cpu")
    assert config.mqtt_host == host_of(fleet.url), "no host in the answer means the server's own"
    assert fleet.device_key == read_device_key(home, config).public
    assert trusted_publishers(home, config).keys.keys() == {fleet.publisher.public.key_id}
    for path in (home.config, home.key):
        assert path.stat().st_mode & 0o077 == 0
    assert config.mqtt_password not in repr(config)
    assert config.client_id not in repr(config)
    assert len(config.client_id) >= 32


def test_two_devices_have_different_keys_and_client_ids(tmp_path: Path, fleet: TinyFleet) -> None:
    first = enrol(Home(tmp_path / "1"), fleet.url, TOKEN, "x86-cpu")
    second = enrol(Home(tmp_path / "2"), fleet.url, TOKEN, "x86-cpu")
    assert first.public_key != second.public_key
    assert first.client_id != second.client_id


def test_an_enrolled_device_is_not_enrolled_again_by_mistake(home: Home, fleet: TinyFleet) -> None:
    before = enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-1")
    with pytest.raises(AlreadyEnrolled, match=r"enrolled as cam-1 in tiny-fleet; use --force"):
        enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-2")
    assert read_config(home) == before


def test_force_makes_a_new_key_and_forgets_what_the_old_fleet_counted(home: Home, fleet: TinyFleet) -> None:
    before = enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-1")
    held = {Slot.A: Held(BUNDLE, counter=4, assignment=9)}
    Store(home).save(Slots(held=held, active=Slot.A, floor=4, number=9))
    home.outbox.write_bytes(b"telemetry of the old fleet")
    after = enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-2", force=True)
    assert after.public_key != before.public_key
    assert read_device_key(home, after).public == fleet.device_key
    slots = Store(home).slots
    assert (slots.floor, slots.number, slots.held) == (0, -1, {Slot.A: Held(BUNDLE)})
    assert slots.active is Slot.A, "what runs goes on running"
    assert not home.outbox.exists()


def test_a_wrong_token_is_refused_in_the_servers_words_and_changes_nothing(
    home: Home, fleet: TinyFleet
) -> None:
    with pytest.raises(ServerRefused, match="this token is unknown, used or expired"):
        enrol(home, fleet.url, "another-token", "x86-cpu")
    assert read_config(home) is None


def test_an_enrolment_that_broke_off_is_taken_up_with_the_same_key(home: Home, fleet: TinyFleet) -> None:
    with pytest.raises(ServerUnreachable):
        enrol(home, "http://127.0.0.1:1", TOKEN, "x86-cpu")
    key = (home.folder / "device.key.new").read_bytes()
    enrol(home, fleet.url, TOKEN, "x86-cpu")
    assert home.key.read_bytes() == key


def test_a_key_that_was_half_written_is_made_anew(home: Home, fleet: TinyFleet) -> None:
    home.make()
    (home.folder / "device.key.new").write_bytes(b"-----BEGIN PRIV")
    config = enrol(home, fleet.url, TOKEN, "x86-cpu")
    assert read_device_key(home, config).public.base64 == config.public_key


def test_an_answer_that_is_no_enrolment_is_refused(home: Home, fleet: TinyFleet) -> None:
    for nonsense in (b"<html>", b"{}", b'{"device": "x"}', b"[1]"):
        fleet.enrol_answer = nonsense
        with pytest.raises(ServerRefused, match="is it an edge-fleet server"):
            enrol(home, fleet.url, TOKEN, "x86-cpu")
    assert read_config(home) is None


def test_a_key_that_is_not_the_enrolled_one_is_noticed(home: Home, fleet: TinyFleet) -> None:
    config = enrol(home, fleet.url, TOKEN, "x86-cpu")
    home.identity_copy.unlink()
    home.key.write_bytes(PrivateKey.generate().pem)
    with pytest.raises(HomeInvalid, match="enrolled was another"):
        read_device_key(home, config)
    home.key.unlink()
    with pytest.raises(HomeInvalid, match="is missing; enrol anew"):
        read_device_key(home, config)


def test_a_device_without_a_fleet_has_no_config(home: Home) -> None:
    assert read_config(home) is None


def test_publishers_trusted_at_the_device_count_besides_the_fleets(home: Home, fleet: TinyFleet) -> None:
    config = enrol(home, fleet.url, TOKEN, "x86-cpu")
    own = PrivateKey.generate().public
    assert trust(home, own)
    assert not trust(home, own)
    assert trusted_publishers(home, config).keys.keys() == {own.key_id, fleet.publisher.public.key_id}
    enrol(home, fleet.url, TOKEN, "x86-cpu", force=True)
    assert own.key_id in trusted_publishers(home, read_config(home)).keys


def test_the_home_of_another_program_is_left_alone_even_by_force(home: Home, fleet: TinyFleet) -> None:
    home.folder.mkdir()
    home.config.write_text('{"format": "edgefleet.server/1"}')
    with pytest.raises(HomeInvalid, match="not an agent's home; choose another --home"):
        enrol(home, fleet.url, TOKEN, "x86-cpu", force=True)
    with pytest.raises(HomeInvalid, match="not an agent's home"), home.locked():
        raise AssertionError("locked")
    with pytest.raises(HomeInvalid, match="not an agent's home"):
        read_config(home)
    assert [path.name for path in home.folder.iterdir()] == ["config.json"]
    assert home.config.read_text() == '{"format": "edgefleet.server/1"}'


def test_an_enrolment_that_was_decided_is_finished_by_whoever_works_there_next(
    home: Home, fleet: TinyFleet
) -> None:
    """Power cuts at each of its steps: benchmarks/faults.py, step "joined"."""
    before = enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-1")
    old_key = home.key.read_bytes()
    after = enrol(home, fleet.url, TOKEN, "x86-cpu", "cam-2", force=True)
    # as the power left it right after the decision: all of it is still the old fleet's
    home.key.rename(home.folder / "device.key.new")
    home.key.write_bytes(old_key)
    home.enrolment.write_bytes(canonical_json(after))
    home.config.write_bytes(canonical_json(before))
    Store(home).save(Slots(floor=4, number=9))
    home.outbox.write_bytes(b"telemetry of the old fleet")
    with home.locked():
        assert read_config(home) == after
    assert read_device_key(home, after).public.base64 == after.public_key
    assert Store(home).slots == Slots()
    assert not home.outbox.exists()
    assert not home.enrolment.exists()
