"""Bundles from a stick: newer ones with a note of a trusted publisher, each once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from agent_bundles import KEY, build, reference

from edge_agent.device import config
from edge_agent.device.home import Home
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce
from edge_agent.updates.media import SCAN_S, Media, read_done
from edge_agent.updates.slots import Phase, Slot, Tell
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_contracts.bundle import open_bundle
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.trust import KeyStatement, ReleaseNote, sign_keys, sign_release

TRUSTED = TrustedKeys.of([KEY.public])
WRONG = np.roll(reference(np.zeros((16, 4), np.float32)), 1, axis=1)


class Device:
    """An updater, a stick and what was told; trials end well unless a test says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.home, self.stick = Home(folder / "home"), folder / "stick"
        self.home.make()
        self.stick.mkdir()
        self.told: list[Tell] = []
        self.followed: list[bytes] = []
        self.trusted = TRUSTED
        self.now_s = 0.0
        self.start()

    def start(self) -> None:
        self.updater = Updater(self.home, Store(self.home), None, self.trusted, self, AtOnce(), Random(1))
        self.media = Media(self.stick, self.home, None, self.updater, self.followed.append, self.tell)
        self.updater.start()

    def serve(self, slot: Slot | None) -> Finding | None:
        return None

    def tell(self, tell: Tell) -> None:
        self.told.append(tell)
        if hasattr(self, "media"):
            self.media.happened(tell)

    def changed(self) -> None:
        """Nobody is listening."""

    def put(self, name: str, counter: int, key: PrivateKey = KEY, **fields: object) -> str:
        """A bundle and its note on the stick; its digest."""
        note_fields = {k: fields.pop(k) for k in ("device", "while_floor") if k in fields}
        archive = build(version=name, key=key, **fields)  # type: ignore[arg-type]
        digest = open_bundle(archive).digest
        (self.stick / f"{name}.bundle").write_bytes(archive)
        note = ReleaseNote.model_validate({"bundle": digest, "counter": counter, **note_fields})
        (self.stick / f"{name}.release").write_bytes(sign_release(note, key))
        return digest

    def look(self, verdict: Verdict = Verdict.HEALTHY) -> None:
        """Three looks, with the trial of each judged."""
        for _ in range(3):
            self.now_s += SCAN_S
            self.media.tick(self.now_s, self.trusted)
            if self.updater.slots.phase is Phase.TRIAL:
                self.updater.judged(Finding(verdict, "error-rate"))

    @property
    def answers(self) -> str | None:
        slots = self.updater.slots
        return slots.bundle_in(slots.active)

    def codes(self, event: str = "media-refused") -> list[str]:
        return [tell.code for tell in self.told if tell.event == event]


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_bundle_with_its_note_is_installed_and_raises_the_counter(device: Device) -> None:
    first = device.put("1", 4)
    device.look()
    assert (device.answers, device.updater.slots.floor) == (first, 4)
    assert device.codes("confirmed") == [""]
    second = device.put("2", 5)
    device.look()
    assert device.answers == second
    assert device.updater.slots.bundle_in(device.updater.slots.last_good) == first


def test_a_stick_that_stays_is_installed_from_once(device: Device) -> None:
    device.put("1", 4)
    for _ in range(3):
        device.look()
        device.start()
    assert device.codes("staged") == [""]


def test_a_bundle_that_failed_its_trial_is_not_tried_again_after_a_restart(device: Device) -> None:
    bad = device.put("1", 4)
    device.look(Verdict.UNHEALTHY)
    device.start()
    device.look()
    assert device.answers is None
    assert device.codes("staged") == [""]
    assert read_done(device.home) == (bad,)


def test_an_older_one_is_refused_unless_a_note_permits_it_and_only_so_long(device: Device) -> None:
    newest = device.put("5", 5)
    device.look()
    device.put("3", 3)
    device.look()
    assert (device.answers, device.codes()) == (newest, ["downgrade"])
    back = device.put("3b", 3, while_floor=5)
    device.look()
    assert device.answers == back
    assert device.updater.slots.floor == 5, "the counter never goes back"
    device.put("6", 6)
    device.look()
    device.put("3c", 3, while_floor=5)
    device.look()
    assert device.codes()[-1] == "downgrade"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda d: d.put("1", 4, key=PrivateKey.generate()), "key-unknown"),
        (lambda d: d.put("1", 4, device="cam-2"), "install-refused"),
        (lambda d: (d.put("1", 4), (d.stick / "1.release").write_bytes(b"{}")), "signature-invalid"),
        (lambda d: (d.put("1", 4), (d.stick / "1.bundle").write_bytes(b"PK")), "bundle-invalid"),
        (
            lambda d: (d.put("1", 4), (d.stick / "1.bundle").write_bytes(build(version="other"))),
            "install-refused",
        ),
    ],
)
def test_what_is_wrong_on_a_stick_is_told_once(
    device: Device, spoil: Callable[[Device], object], code: str
) -> None:
    spoil(device)
    device.look()
    device.look()
    assert device.answers is None
    assert device.codes() == [code]


def test_a_bundle_without_a_note_is_left_alone(device: Device) -> None:
    device.put("1", 4)
    (device.stick / "1.release").unlink()
    device.look()
    assert (device.answers, device.told[1:]) == (None, [])


def test_a_bundle_whose_golden_answers_do_not_agree_is_refused_for_good(device: Device) -> None:
    good = device.put("1", 4)
    device.look()
    device.put("2", 5, expected=WRONG)
    device.look()
    assert device.answers == good
    assert device.codes("refused") == ["golden-mismatch"]


def test_a_stick_that_is_pulled_out_in_the_middle_is_tried_again_when_it_is_back(device: Device) -> None:
    digest = device.put("1", 4)
    pulled = device.stick.with_name("pulled")
    held = device.updater.bring

    def bring(work: Any, refused: Any) -> None:
        device.stick.rename(pulled)  # after the note was read, before the bundle was
        held(work, refused)

    device.updater.bring = bring  # type: ignore[method-assign]
    device.look()
    assert (device.answers, device.codes()) == (None, ["bundle-invalid"])
    assert device.updater.slots.held == {}
    device.updater.bring = held  # type: ignore[method-assign]
    pulled.rename(device.stick)
    device.look()
    assert device.answers == digest


def test_a_bundle_that_is_still_being_copied_is_waited_for(device: Device) -> None:
    digest = device.put("1", 4)
    archive = device.stick / "1.bundle"
    whole = archive.read_bytes()
    for share in (0, 3, 2):
        archive.write_bytes(whole[: len(whole) // share] if share else b"")
        device.now_s += SCAN_S
        device.media.tick(device.now_s, device.trusted)
    archive.write_bytes(whole)
    device.look()
    assert (device.answers, device.codes()) == (digest, [])


def test_a_folder_that_is_not_there_is_no_stick(device: Device) -> None:
    for path in device.stick.iterdir():
        path.unlink()
    device.stick.rmdir()
    device.look()
    assert device.codes() == []


def test_links_and_large_files_are_not_read(device: Device, tmp_path: Path) -> None:
    digest = device.put("1", 4)
    (device.stick / "1.release").rename(tmp_path / "elsewhere")
    (device.stick / "1.release").symlink_to(tmp_path / "elsewhere")
    (device.stick / "x.keys").write_bytes(b"x" * (1 << 20))
    device.look()
    assert device.answers != digest
    assert device.followed == []


def test_statements_about_keys_come_before_bundles(device: Device) -> None:
    other = PrivateKey.generate()
    statement = sign_keys(KeyStatement(counter=1, add=(other.public.base64,)), KEY)
    (device.stick / "z.keys").write_bytes(statement)
    digest = device.put("1", 4, key=other)
    config.trust(device.home, KEY.public)

    for look in (1, 2):
        device.media.tick(look * SCAN_S, device.trusted)
    device.now_s = 2 * SCAN_S
    assert device.followed == [statement]
    config.follow(device.home, None, statement)
    device.trusted = config.trusted_publishers(device.home, None)
    device.updater.trust(device.trusted)
    device.look()
    assert device.answers == digest
    assert len(device.followed) == 1
