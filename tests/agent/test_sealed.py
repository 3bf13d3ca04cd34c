"""Models that are encrypted on the device: opened by every runtime, tried, read by nobody else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import GOLDEN_X, KEY, build, reference
from click.testing import CliRunner

from edge_agent import sealed
from edge_agent.cli import main
from edge_agent.device.home import Home
from edge_agent.errors import AgentError, HomeInvalid
from edge_agent.inference.session import Session
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates import installer
from edge_agent.updates.local import install
from edge_agent.updates.slots import Slot
from edge_agent.updates.store import Store
from edge_agent.updates.trial import Limits, run_trial
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.errors import BundleInvalid
from edge_contracts.keys import TrustedKeys

TRUSTED = TrustedKeys.of([KEY.public])
BUNDLE = open_bundle(build("float32", "int8", "openvino"))
KINDS = {"float32": "litert", "int8": "litert", "openvino": "openvino"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    sealed.make_key(made.folder)
    return made


def unpacked(home: Home, bundle: Bundle = BUNDLE) -> Path:
    folder = home.slot(Slot.A)
    sealed.unpack(bundle, folder)
    return folder


def secrets_of(bundle: Bundle) -> list[bytes]:
    """Pieces of every file that nobody may read."""
    return [content[len(content) // 2 :][:64] for content in bundle.contents.values()]


def everything_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_nothing_of_a_model_is_on_the_disk_and_all_of_it_is_read_back(home: Home) -> None:
    folder = unpacked(home)
    stored = everything_below(home.folder)
    assert not [piece for piece in secrets_of(BUNDLE) if piece in stored]
    assert installer.verify_slot(home, Slot.A, TRUSTED, BUNDLE.digest).digest == BUNDLE.digest
    assert sealed.read_folder(folder).contents == BUNDLE.contents


@pytest.mark.parametrize("kind", KINDS)
def test_every_runtime_opens_what_is_encrypted_and_answers_as_ever(home: Home, kind: str) -> None:
    folder = unpacked(home)
    session = Session.open(folder, BUNDLE.manifest, Choice(Option(kind, KINDS[kind], "CPU")))
    answer = session.infer({"x": GOLDEN_X})
    session.close()
    assert np.abs(answer.outputs["scores"] - reference(GOLDEN_X)).max() < 0.05
    stored = everything_below(home.folder)
    assert not [piece for piece in secrets_of(BUNDLE) if piece in stored], "a plain file was written"


@pytest.mark.parametrize("kind", ["int8", "openvino"])
def test_a_child_that_stays_opens_what_is_encrypted(home: Home, kind: str) -> None:
    folder = unpacked(home)
    choice = Choice(Option(kind, KINDS[kind], "CPU"))
    session = Session.open(folder, BUNDLE.manifest, choice, isolate=True)
    answer = session.infer({"x": GOLDEN_X})
    session.close()
    assert np.abs(answer.outputs["scores"] - reference(GOLDEN_X)).max() < 0.05
    stored = everything_below(home.folder)
    assert not [piece for piece in secrets_of(BUNDLE) if piece in stored], "a plain file was written"


def test_a_child_that_stays_refuses_another_content_and_none(home: Home) -> None:
    folder = unpacked(home, open_bundle(build("int8")))
    (file,) = folder.glob("artifacts/*" + sealed.SUFFIX)
    name = f"artifacts/{file.name.removesuffix(sealed.SUFFIX)}"
    file.unlink()
    with pytest.raises(AgentError, match="cannot be read: No such file") as missing:
        Session.open(folder, BUNDLE.manifest, Choice(Option("int8", "litert", "CPU")), isolate=True)
    assert missing.value.code == "digest-mismatch"
    file.write_bytes(b"".join(sealed._encrypted(b"other weights", sealed.find_key(folder) or b"", name)))
    with pytest.raises(AgentError, match="the manifest says") as other:
        Session.open(folder, BUNDLE.manifest, Choice(Option("int8", "litert", "CPU")), isolate=True)
    assert other.value.code == "digest-mismatch"


def test_a_trial_in_a_child_process_writes_nothing_plain(home: Home) -> None:
    folder = unpacked(home)
    before = {path for path in home.folder.rglob("*")}
    report = run_trial(folder, BUNDLE.manifest, Limits())
    assert report.golden.passed
    assert {path for path in home.folder.rglob("*")} == before


def test_an_install_is_encrypted_and_said_to_be(home: Home, tmp_path: Path) -> None:
    archive = tmp_path / "x.bundle"
    archive.write_bytes(build())
    with home.locked():
        install(home, archive, TRUSTED)
    assert Store(home).slots.active is Slot.A
    assert not [p for p in secrets_of(open_bundle(archive)) if p in everything_below(home.folder)]
    said = CliRunner().invoke(main, ["status", "--home", str(home.folder)], catch_exceptions=False).output
    assert ", encrypted" in said


def test_a_device_without_a_key_unpacks_as_ever(tmp_path: Path) -> None:
    sealed.unpack(BUNDLE, tmp_path / "slot")
    assert not list(tmp_path.rglob("*.sealed"))
    assert sealed.read_folder(tmp_path / "slot").contents == BUNDLE.contents


@pytest.mark.parametrize("size", [0, 1, sealed.CHUNK_BYTES, sealed.CHUNK_BYTES + 1, 3 * sealed.CHUNK_BYTES])
def test_files_of_every_size_come_back(size: int) -> None:
    key, content = os.urandom(32), os.urandom(size)
    stored = b"".join(sealed._encrypted(content, key, "m"))
    assert b"".join(sealed._decrypted(stored, key, "m")) == content


def damaged(stored: bytes) -> dict[str, bytes]:
    """Everything that somebody with the disk could do to two chunks and a bit."""
    header = sealed._HEADER_BYTES
    chunk = sealed.CHUNK_BYTES + sealed.TAG_BYTES
    first, second, rest = (
        stored[header : header + chunk],
        stored[header + chunk : header + 2 * chunk],
        stored[header + 2 * chunk :],
    )
    return {
        "a flipped bit": stored[:-1] + bytes([stored[-1] ^ 1]),
        "a flipped bit of the key": stored[:30] + bytes([stored[30] ^ 1]) + stored[31:],
        "cut at a chunk": stored[: header + 2 * chunk],
        "cut in a chunk": stored[:-5],
        "chunks exchanged": stored[:header] + second + first + rest,
        "a chunk left out": stored[:header] + first + rest,
        "a chunk doubled": stored[:header] + first + first + second + rest,
        "more at the end": stored + rest,
        "nothing": b"",
        "the header alone": stored[:header],
    }


def test_a_sealed_file_that_was_changed_is_never_opened() -> None:
    key = os.urandom(32)
    stored = b"".join(sealed._encrypted(os.urandom(2 * sealed.CHUNK_BYTES + 9), key, "m"))
    for what, content in damaged(stored).items():
        with pytest.raises(BundleInvalid):
            b"".join(sealed._decrypted(content, key, "m"))
            pytest.fail(f"{what} was opened")
    for other_key, name in ((os.urandom(32), "m"), (key, "other")):
        with pytest.raises(BundleInvalid, match="another device's key"):
            b"".join(sealed._decrypted(stored, other_key, name))


def test_a_slot_of_another_device_is_refused(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.make()
    sealed.make_key(other.folder)
    shutil.copytree(unpacked(home), other.slot(Slot.A))
    with pytest.raises(BundleInvalid, match="another device's key"):
        installer.verify_slot(other, Slot.A, TRUSTED, BUNDLE.digest)


def test_a_missing_key_is_said_and_the_bundle_is_kept_for_its_return(home: Home, tmp_path: Path) -> None:
    archive = tmp_path / "x.bundle"
    archive.write_bytes(build())
    with home.locked():
        install(home, archive, TRUSTED)
    key = (home.folder / sealed.KEY_NAME).read_bytes()
    (home.folder / sealed.KEY_NAME).unlink()
    with pytest.raises(HomeInvalid, match=r"model\.key is missing; bring it back"):
        installer.verify_slot(home, Slot.A, TRUSTED)
    (home.folder / sealed.KEY_NAME).write_bytes(key[:31])
    (home.folder / sealed.KEY_NAME).chmod(0o600)
    with pytest.raises(HomeInvalid, match="has 31 bytes"):
        installer.verify_slot(home, Slot.A, TRUSTED)
    (home.folder / sealed.KEY_NAME).write_bytes(key)
    (home.folder / sealed.KEY_NAME).chmod(0o644)
    with pytest.raises(HomeInvalid, match="mode 0644"):
        installer.verify_slot(home, Slot.A, TRUSTED)
    (home.folder / sealed.KEY_NAME).chmod(0o600)
    installer.verify_slot(home, Slot.A, TRUSTED)


def test_a_key_from_systemds_credentials_comes_first(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpacked(home)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert sealed.read_folder(folder).contents == BUNDLE.contents, "a directory without our credential"
    (home.folder / sealed.KEY_NAME).rename(credentials / sealed.CREDENTIAL)
    assert sealed.read_folder(folder).contents == BUNDLE.contents


def test_a_key_is_made_once_and_for_its_owner_only(home: Home) -> None:
    path = home.folder / sealed.KEY_NAME
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    sealed.make_key(home.folder)
    assert path.read_bytes() == before
