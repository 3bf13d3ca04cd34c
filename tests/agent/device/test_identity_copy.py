"""Files that say who the device is, damaged in every way: their copy counts, and never an older truth."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from agent_bundles import build
from click.testing import CliRunner
from enrolled_device import device_config

from edge_agent.cli import main
from edge_agent.device import config as configured
from edge_agent.device.config import DeviceConfig, read_config, read_device_key, read_trust
from edge_agent.device.enrol import finish
from edge_agent.device.home import Home, write_durably
from edge_agent.device.identity_copy import read_copy
from edge_agent.device.mending import mend
from edge_agent.device.succession import Succession, make_next
from edge_agent.errors import HomeInvalid
from edge_agent.sealed import find_key, make_key, unpack
from edge_agent.serving.token import read_or_make_token
from edge_agent.updates.slots import Slot
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.messages import Assignment
from edge_contracts.model import canonical_json

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: bytes(byte ^ 0xA5 for byte in content),
}
FILES = ["config.json", "device.key", "trusted.json", "model.key"]


def write_config(home: Home, key: PrivateKey, **changes: str) -> None:
    config = device_config(public_key=key.public.base64, publisher_keys=(key.public.base64,), **changes)
    write_durably(home.config, canonical_json(config))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of a device that is enrolled, trusts somebody by hand, encrypts its models and has started once."""
    made = Home(tmp_path / "home")
    made.make()
    key = PrivateKey.generate()
    write_private(key, made.key)
    write_config(made, key)
    configured.trust(made, PrivateKey.generate().public)
    make_key(made.folder)
    assert mend(made) == ()
    return made


def rot(path: Path, content: bytes) -> None:
    """Other bytes, as a medium brings them about: nobody has written the file."""
    about = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def written(path: Path, content: bytes) -> None:
    """Other bytes by somebody's hand, at a time of its own."""
    path.write_bytes(content)
    later_ns = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(later_ns, later_ns))


def enrolment(home: Home) -> DeviceConfig:
    config = read_config(home)
    assert config is not None
    return config


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_put_back_and_told(home: Home, name: str, damage: str) -> None:
    before = {each: (home.folder / each).read_bytes() for each in FILES}
    happened = rot if name == "model.key" and damage == "garbage" else written  # any 32 bytes are a key
    happened(home.folder / name, DAMAGES[damage](before[name]))
    (said,) = mend(home)
    assert name in said and "put back from its copy" in said
    assert {each: (home.folder / each).read_bytes() for each in FILES} == before
    assert mend(home) == (), "the second start has nothing to mend"
    assert read_device_key(home, enrolment(home)).public.base64 == enrolment(home).public_key
    assert find_key(home.folder) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_comes_back(home: Home, name: str) -> None:
    before = (home.folder / name).read_bytes()
    (home.folder / name).unlink()
    (said,) = mend(home)
    assert "is missing" in said
    assert (home.folder / name).read_bytes() == before


def test_a_device_whose_config_and_key_were_taken_away_stays_without_them(home: Home) -> None:
    home.config.unlink()
    home.key.unlink()
    assert mend(home) == ()
    assert not home.config.exists() and not home.key.exists()
    assert read_config(home) is None
    assert "config.json" not in read_copy(home), "what was taken away does not come back with one of the two"
    write_private(PrivateKey.generate(), home.key)
    assert read_config(home) is None


def test_a_bit_that_flips_in_a_password_is_found_for_nobody_has_written_the_file(home: Home) -> None:
    before = home.config.read_bytes()
    rot(home.config, before.replace(b'"secret"', b'"secrdt"'))
    assert enrolment(home).mqtt_password == "secret"
    (said,) = mend(home)
    assert "other bytes than were written" in said
    assert home.config.read_bytes() == before


def test_what_a_person_has_written_counts_before_the_copy(home: Home) -> None:
    written(home.config, home.config.read_bytes().replace(b'"secret"', b'"newer!"'))
    assert mend(home) == ()
    assert enrolment(home).mqtt_password == "newer!"
    written(home.config, b"")
    mend(home)
    assert enrolment(home).mqtt_password == "newer!", "the copy was brought up to date"


def test_another_devices_key_gives_way_to_our_own(home: Home) -> None:
    before = home.key.read_bytes()
    written(home.key, PrivateKey.generate().pem)
    (said,) = mend(home)
    assert "enrolled was another" in said
    assert home.key.read_bytes() == before


def test_another_devices_config_gives_way_to_our_own(home: Home) -> None:
    before = home.config.read_bytes()
    written(home.config, canonical_json(device_config(device="cam-2")))
    (said,) = mend(home)
    assert "not of one device" in said
    assert home.config.read_bytes() == before


def test_config_and_key_of_another_enrolment_are_not_turned_back(home: Home) -> None:
    key = PrivateKey.generate()
    home.key.unlink()
    write_private(key, home.key)
    write_config(home, key, device="cam-2")
    for path in (home.config, home.key):
        os.utime(path, ns=(1, 1))
    assert mend(home) == ()
    assert enrolment(home).device == "cam-2"


@pytest.mark.parametrize("cut", ["", "before the key", "before the copy"])
def test_a_change_of_key_is_never_undone_by_the_copy(home: Home, cut: str) -> None:
    old = home.key.read_bytes()
    stale = home.identity_copy.read_bytes()
    key = make_next(home)
    found = Succession(home, enrolment(home), read_device_key(home, enrolment(home)))
    assert found.heard(Assignment(device="cam-1", number=0, known_key=key.public.key_id)) == key
    if cut:
        home.identity_copy.write_bytes(stale)
    if cut == "before the key":
        os.replace(home.key, home.next_key)
        written(home.key, old)
        home.key.chmod(0o600)
    assert mend(home) == ()
    assert read_device_key(home, enrolment(home)) == key
    written(home.key, b"")
    written(home.config, b"")
    assert len(mend(home)) == 2
    assert read_device_key(home, enrolment(home)).public == key.public


def test_a_statement_that_was_followed_survives_the_damage_of_its_file(home: Home) -> None:
    key = PrivateKey.generate().public
    configured.trust(home, key)
    rot(home.trusted, b"")
    assert key.base64 in read_trust(home).keys


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_made_anew_and_changes_nothing_else(home: Home, damage: str) -> None:
    before = {each: (home.folder / each).read_bytes() for each in FILES}
    content = home.identity_copy.read_bytes()
    home.identity_copy.write_bytes(DAMAGES[damage](content))
    (said,) = mend(home)
    assert "identity.copy was damaged" in said
    assert home.identity_copy.read_bytes() == content
    assert {each: (home.folder / each).read_bytes() for each in FILES} == before


@pytest.mark.parametrize("name", ["config.json", "device.key"])
def test_without_any_sound_copy_it_is_said_what_to_do(home: Home, name: str) -> None:
    home.identity_copy.write_bytes(b"nothing")
    (home.folder / name).write_bytes(b"\0\0")
    mend(home)
    with pytest.raises(HomeInvalid, match="enroll --force"):
        read_device_key(home, enrolment(home))


def test_a_file_that_cannot_be_put_back_keeps_its_copy(home: Home) -> None:
    copied = home.identity_copy.read_bytes()
    home.config.unlink()
    home.config.mkdir()
    for _ in range(2):
        assert [line for line in mend(home) if "its copy counts" in line]
        assert enrolment(home).device == "cam-1"
    assert home.identity_copy.read_bytes() == copied


def test_another_file_of_ours_in_its_place_is_damage_and_no_other_programs_home(home: Home) -> None:
    written(home.config, b'{"format": "edgefleet.drift/1"}')
    assert len(mend(home)) == 1
    assert enrolment(home).device == "cam-1"


def test_a_model_key_that_opens_no_model_gives_way_to_the_one_that_does(home: Home, tmp_path: Path) -> None:
    unpack(open_bundle(build()), home.slot(Slot.A))
    before = (home.folder / "model.key").read_bytes()
    written(home.folder / "model.key", bytes(byte ^ 1 for byte in before))
    (said,) = mend(home)
    assert "opens none of the models" in said
    assert (home.folder / "model.key").read_bytes() == before


def test_a_token_that_is_damaged_comes_back_and_one_that_was_removed_does_not(home: Home) -> None:
    token = read_or_make_token(home.serve_token)
    assert mend(home) == ()
    written(home.serve_token, b"\0" * 44)
    assert len(mend(home)) == 1
    assert read_or_make_token(home.serve_token) == token
    home.serve_token.unlink()
    assert mend(home) == ()
    assert read_or_make_token(home.serve_token) != token, "who removes it wants another"


def test_modes_that_let_others_read_are_set_right(home: Home) -> None:
    home.key.chmod(0o644)
    home.config.chmod(0o200)
    said = mend(home)
    assert [line.partition(" had ")[2] for line in said] == [
        "mode 0200; set to 0600",
        "mode 0644; set to 0600",
    ]
    assert home.key.stat().st_mode & 0o777 == 0o600


def test_a_damaged_enrolment_leaves_the_device_where_it_was(home: Home) -> None:
    before = home.config.read_bytes()
    home.enrolment.write_bytes(canonical_json(device_config(fleet="other"))[:-9])
    finish(home)
    assert home.config.read_bytes() == before
    assert not home.enrolment.exists()
    with home.locked():
        assert read_device_key(home, enrolment(home))


def test_status_and_doctor_work_and_say_it(home: Home) -> None:
    content = home.config.read_bytes()
    run = CliRunner()
    written(home.config, b"\0" * 40)
    for command in ("status", "doctor"):
        said = run.invoke(main, [command, "--home", str(home.folder)])
        assert "config.json" in said.output and "restart the agent" in said.output
    home.identity_copy.unlink()
    said = run.invoke(main, ["status", "--home", str(home.folder)])
    assert said.exit_code == 0
    assert "who this device is cannot be read" in said.output and "enroll --force" in said.output
    said = run.invoke(main, ["doctor", "--home", str(home.folder), "--json"])
    wrong = [one for one in json.loads(said.output) if one["subject"] == "enrolment"]
    assert said.exit_code == 1 and "enroll --force" in wrong[0]["advice"]
    written(home.config, content)
    home.key.write_bytes(b"")
    said = run.invoke(main, ["status", "--home", str(home.folder)])
    assert said.exit_code == 0 and "device.key" in said.output and "enroll --force" in said.output
