"""Bringing a bundle into a slot, and finding out later that it is still what it was."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from agent_bundles import KEY, build

from edge_agent.device.home import Home
from edge_agent.errors import HomeInvalid, InstallRefused, NoSpace, WrongProfile
from edge_agent.updates import installer
from edge_agent.updates.room import Room
from edge_agent.updates.slots import Slot
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.errors import BundleInvalid, DigestMismatch, KeyUnknown
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.profile import lineage, load_profile

TRUSTED = TrustedKeys.of([KEY.public])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_placed_bundle_verifies_as_what_it_was(home: Home) -> None:
    bundle = open_bundle(build())
    installer.place(home, bundle, Slot.B)
    verified = installer.verify_slot(home, Slot.B, TRUSTED, bundle.digest)
    assert verified.digest == bundle.digest
    assert [f.name for f in home.slot(Slot.B).parent.iterdir()] == ["b"]


def test_placing_replaces_what_was_left_in_the_slot(home: Home) -> None:
    installer.place(home, open_bundle(build(version="1")), Slot.A)
    second = open_bundle(build(version="2"))
    installer.place(home, second, Slot.A)
    assert installer.verify_slot(home, Slot.A, TRUSTED).digest == second.digest


def test_leftovers_of_a_power_cut_do_not_matter(home: Home) -> None:
    for name in ("a.new", "a.old"):
        (home.folder / "slots" / name / "artifacts").mkdir(parents=True)
    bundle = open_bundle(build())
    installer.place(home, bundle, Slot.A)
    installer.verify_slot(home, Slot.A, TRUSTED, bundle.digest)


def test_every_changed_file_of_a_slot_is_noticed(home: Home) -> None:
    bundle = open_bundle(build("float32", "int8"))
    installer.place(home, bundle, Slot.A)
    files = [f for f in home.slot(Slot.A).rglob("*") if f.is_file()]
    assert len(files) == 5
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(Exception, match=r"digest|canonical|JSON|envelope|DSSE|verify|signature"):
            installer.verify_slot(home, Slot.A, TRUSTED, bundle.digest)
        file.unlink()
        with pytest.raises(BundleInvalid, match="No such file"):
            installer.verify_slot(home, Slot.A, TRUSTED, bundle.digest)
        file.write_bytes(content)
    installer.verify_slot(home, Slot.A, TRUSTED, bundle.digest)


def test_another_bundle_in_the_slot_is_noticed_though_it_verifies(home: Home) -> None:
    installer.place(home, open_bundle(build(version="1")), Slot.A)
    with pytest.raises(DigestMismatch, match="slot a holds bundle"):
        installer.verify_slot(home, Slot.A, TRUSTED, open_bundle(build(version="2")).digest)


def test_a_publisher_who_is_not_trusted_any_more_does_not_verify(home: Home) -> None:
    installer.place(home, open_bundle(build()), Slot.A)
    with pytest.raises(KeyUnknown):
        installer.verify_slot(home, Slot.A, TrustedKeys.of([PrivateKey.generate().public]))


def test_erasing_an_empty_slot_is_harmless(home: Home) -> None:
    installer.erase(home, Slot.A)
    installer.place(home, open_bundle(build()), Slot.A)
    installer.erase(home, Slot.A)
    installer.erase(home, Slot.A)
    assert list((home.folder / "slots").iterdir()) == []


def test_a_bundle_for_a_profile_that_the_device_extends_is_admitted() -> None:
    manifest = open_bundle(build(profile="arm-cpu")).manifest
    installer.admit(manifest, load_profile("raspberry-pi-4"), lineage("raspberry-pi-4"))


def test_a_bundle_for_a_more_special_profile_is_refused() -> None:
    manifest = open_bundle(build(profile="raspberry-pi-4")).manifest
    with pytest.raises(WrongProfile, match="made for profile raspberry-pi-4, this device runs arm-cpu"):
        installer.admit(manifest, load_profile("arm-cpu"), lineage("arm-cpu"))


def test_an_artifact_above_the_profiles_bound_is_refused() -> None:
    manifest = open_bundle(build()).manifest
    small = load_profile("x86-cpu").model_copy(update={"artifact_bytes": 10})
    with pytest.raises(InstallRefused, match="profile x86-cpu allows 10"):
        installer.admit(manifest, small, lineage("x86-cpu"))
    largest = max(artifact.bytes for artifact in manifest.artifacts)
    just = small.model_copy(update={"artifact_bytes": largest})
    installer.admit(manifest, just, lineage("x86-cpu"))


def test_room_that_was_kept_for_a_bundle_is_given_to_it(home: Home) -> None:
    home.downloads.mkdir(exist_ok=True)
    Room(home.downloads).reserve(1 << 20)
    installer.place(home, open_bundle(build()), Slot.A)
    assert list(home.downloads.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "refused", "told"),
    [
        (errno.ENOSPC, NoSpace, "ran full while"),
        (errno.EDQUOT, NoSpace, "ran full while"),
        (errno.EIO, HomeInvalid, "cannot write .*: Input/output error"),
    ],
)
def test_a_disk_that_gives_way_while_a_bundle_is_unpacked_is_told_apart_and_keeps_no_part(
    home: Home, monkeypatch: pytest.MonkeyPatch, code: int, refused: type[Exception], told: str
) -> None:
    def give_way(_bundle: Bundle, folder: Path) -> None:
        folder.mkdir()
        (folder / "a part").write_bytes(b"x")
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("edge_agent.sealed.unpack", give_way)
    with pytest.raises(refused, match=told):
        installer.place(home, open_bundle(build()), Slot.A)
    assert list((home.folder / "slots").iterdir()) == []


def test_erasing_leaves_nothing_also_after_one_that_a_power_cut_ended(home: Home) -> None:
    installer.place(home, open_bundle(build()), Slot.A)
    cut = home.folder / "slots" / "a.old" / "artifacts"
    cut.mkdir(parents=True)
    installer.erase(home, Slot.A)
    assert list((home.folder / "slots").iterdir()) == []


def test_of_what_lies_in_the_slots_what_verifies_is_salvaged(home: Home) -> None:
    assert installer.salvage(home, TRUSTED) == {}
    bundle = open_bundle(build())
    installer.place(home, bundle, Slot.A)
    installer.place(home, open_bundle(build(version="2")), Slot.B)
    (home.slot(Slot.B) / "manifest.json").write_bytes(b"{}")
    found = installer.salvage(home, TRUSTED)
    assert {slot: one.bundle for slot, one in found.items()} == {Slot.A: bundle.digest}


def test_without_room_nothing_is_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(build())
    monkeypatch.setattr("edge_agent.updates.room.RESERVE_BYTES", 1 << 60)
    with pytest.raises(NoSpace, match="bytes free"):
        installer.place(home, bundle, Slot.A)
    assert list((home.folder / "slots").iterdir()) == []
