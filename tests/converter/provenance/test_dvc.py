"""DVC's word on a file: found, believed when it is true, and refused when it is not.

The hashes are those that DVC 3.67.1 wrote for these contents (`dvc add`, `dvc repro`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_convert.errors import VersionMismatch
from edge_convert.provenance.dvc import version_of
from edge_convert.provenance.materials import Origin, of_file

pytest.importorskip("yaml", reason="DVC's files are YAML")

FOLDER = "4516379d7dce6d6c632e8aa254da1b75.dir"
DATA = "e54b0b88b633d36d5018278e264aa90c.dir"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What `dvc init`, `dvc add models/saved models/m.onnx data` and `dvc repro` leave."""
    root = tmp_path / "repo"
    (root / ".dvc").mkdir(parents=True)
    saved = root / "models" / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"one")
    (saved / "variables" / "b.txt").write_bytes(b"two\r\n")
    (saved / "fingerprint.pb").write_bytes(b"three")
    (root / "models" / "m.onnx").write_bytes(b"weights")
    (root / "models" / "t.onnx").write_bytes(b"trained")
    (root / "data").mkdir()
    (root / "data" / "x.npz").write_bytes(b"x")
    (root / "models" / "m.onnx.dvc").write_text(
        "outs:\n- md5: 63f4f1e9b725370f459720575cd5f953\n  size: 7\n  hash: md5\n  path: m.onnx\n"
    )
    (root / "models" / "saved.dvc").write_text(
        f"outs:\n- md5: {FOLDER}\n  size: 13\n  nfiles: 3\n  hash: md5\n  path: saved\n"
    )
    (root / "data.dvc").write_text(
        f"outs:\n- md5: {DATA}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train:\n    cmd: train\n    outs:\n"
        "    - path: models/t.onnx\n      hash: md5\n"
        "      md5: 8fd8fd9e40a988345fdd10fcc36f2fd4\n      size: 7\n"
    )
    listing = root / ".dvc" / "cache" / "files" / "md5" / DATA[:2] / DATA[2:]
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps([{"md5": "9dd4e461268c8034f5c8564e155c67a6", "relpath": "x.npz"}]))
    return root


@pytest.mark.parametrize(
    ("path", "md5", "stated_in"),
    [
        ("models/m.onnx", "63f4f1e9b725370f459720575cd5f953", "models/m.onnx.dvc"),
        ("models/saved", FOLDER, "models/saved.dvc"),
        ("models/t.onnx", "8fd8fd9e40a988345fdd10fcc36f2fd4", "dvc.lock"),
        ("data/x.npz", "9dd4e461268c8034f5c8564e155c67a6", "data.dvc"),
    ],
)
def test_a_tracked_file_or_folder_is_recognised(
    repository: Path, path: str, md5: str, stated_in: str
) -> None:
    version = version_of(repository / path)
    assert version is not None
    assert (version.md5, version.path, version.stated_in) == (md5, path, stated_in)


@pytest.mark.parametrize(
    "path", ["models/m.onnx", "models/saved/fingerprint.pb", "models/t.onnx", "data/x.npz"]
)
def test_a_file_that_has_changed_since_is_refused(repository: Path, path: str) -> None:
    (repository / path).write_bytes(b"something else")
    with pytest.raises(VersionMismatch, match=r"it has changed since; run `dvc add`"):
        version_of(repository / "models/saved" if "saved" in path else repository / path)


def test_a_file_that_nobody_tracks_has_no_version(repository: Path, tmp_path: Path) -> None:
    (repository / "models" / "new.onnx").write_bytes(b"new")
    (tmp_path / "alone.onnx").write_bytes(b"alone")
    assert version_of(repository / "models" / "new.onnx") is None
    assert version_of(tmp_path / "alone.onnx") is None


def test_a_file_in_a_tracked_folder_without_its_list_is_not_claimed(repository: Path) -> None:
    (repository / ".dvc" / "cache" / "files" / "md5" / DATA[:2] / DATA[2:]).unlink()
    assert version_of(repository / "data" / "x.npz") is None


def test_a_dvc_file_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"weights")
    (tmp_path / "m.onnx.dvc").write_text("outs:\n- md5: 63f4f1e9b725370f459720575cd5f953\n  path: m.onnx\n")
    version = version_of(tmp_path / "m.onnx")
    assert version is not None and version.path == "m.onnx"


def test_text_that_dvc_2_hashed_with_unix_line_ends_is_taken(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"two\r\n")
    # md5 of b"two\n", by md5sum
    (tmp_path / "l.txt.dvc").write_text("outs:\n- md5: c193497a1a06b2c72230e6146ff47080\n  path: l.txt\n")
    assert version_of(tmp_path / "l.txt") is not None
    (tmp_path / "l.txt.dvc").write_text(
        "outs:\n- md5: c193497a1a06b2c72230e6146ff47080\n  path: l.txt\n  hash: md5\n"
    )
    with pytest.raises(VersionMismatch):  # DVC 3 hashes what is there
        version_of(tmp_path / "l.txt")


def test_an_import_names_its_repository_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"weights")
    (tmp_path / "m.onnx.dvc").write_text(
        "deps:\n- path: m.onnx\n  repo:\n    url: https://me:secret@example.org/models.git\n"
        "    rev_lock: abc\n"
        "outs:\n- md5: 63f4f1e9b725370f459720575cd5f953\n  path: m.onnx\n"
    )
    version = version_of(tmp_path / "m.onnx")
    assert version is not None
    assert version.annotations["dvc_repository"] == "https://example.org/models.git"
    assert version.annotations["dvc_revision"] == "abc"


@pytest.mark.parametrize("text", ["outs: [", "\tx", "&a [*a]", "outs: 3", "outs:\n- 3\n", "stages: 1", ""])
def test_a_damaged_dvc_file_is_refused_or_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.onnx").write_bytes(b"weights")
    (tmp_path / "m.onnx.dvc").write_text(text)
    try:
        assert version_of(tmp_path / "m.onnx") is None
    except VersionMismatch as error:
        assert "not YAML" in str(error)


def test_the_version_goes_into_the_material_and_a_registrys_uri_comes_first(repository: Path) -> None:
    material = of_file("source", repository / "models" / "m.onnx")
    assert material.uri == "dvc:md5:63f4f1e9b725370f459720575cd5f953"
    assert material.annotations["dvc_path"] == "models/m.onnx"
    fetched = of_file("source", repository / "models" / "m.onnx", origin=Origin("models:/m/1", {"run": "r"}))
    assert fetched.uri == "models:/m/1"
    assert {"run", "dvc_md5"} <= fetched.annotations.keys()
