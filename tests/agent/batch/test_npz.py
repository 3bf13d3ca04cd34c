"""Arrays of .npz files, mapped where they can be."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_agent.batch.npz import open_npz
from edge_contracts.errors import FormatInvalid

X = np.arange(24, dtype=np.float32).reshape(6, 4)


def test_what_is_stored_is_mapped_and_what_is_compressed_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=X, y=np.asfortranarray(X), n=np.zeros((0, 3)), one=np.array(7))
    np.savez_compressed(tmp_path / "c.npz", x=X)
    stored = open_npz(tmp_path / "s.npz")
    assert isinstance(stored["x"], np.memmap)
    assert np.array_equal(stored["x"], X)
    assert np.array_equal(stored["y"], X)
    assert stored["n"].shape == (0, 3)
    read = open_npz(tmp_path / "c.npz")
    assert not isinstance(read["x"], np.memmap)
    assert np.array_equal(read["x"], X)


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", x=X)
    whole = (tmp_path / "s.npz").read_bytes()
    wrong = {
        "none": None,
        "text": b"nothing of the kind",
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "claims": whole.replace(b"(6, 4)", b"(9, 4)"),
        "negative": whole.replace(b"(6, 4), ", b"(-6, 4),"),
        "version": whole.replace(b"NUMPY\x01\x00", b"NUMPY\x07\x00"),
        "header": whole.replace(b"PK\x03\x04", b"PK\x03\x05"),
        "objects": whole.replace(b"'<f4'", b"'|O4'"),
    }
    for name, content in wrong.items():
        if content is not None:
            (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(FormatInvalid):
            open_npz(tmp_path / f"{name}.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"not an array")
    (tmp_path / "m.npz").write_bytes(stream.getvalue())
    with pytest.raises(FormatInvalid, match="damaged"):
        open_npz(tmp_path / "m.npz")
