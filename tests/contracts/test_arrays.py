"""Data files: numbers in, numbers out, nothing unpickled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_contracts.arrays import read_npz, write_npz
from edge_contracts.errors import FormatInvalid


def test_what_is_written_reads_back_and_numpy_reads_it_too(tmp_path: Path) -> None:
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "input/y": np.array([1, 2])}
    content = write_npz(arrays)
    (tmp_path / "a.npz").write_bytes(content)
    for found in (read_npz(content), read_npz(tmp_path / "a.npz"), dict(np.load(tmp_path / "a.npz"))):
        assert found.keys() == arrays.keys()
        for name, values in arrays.items():
            assert found[name].dtype == values.dtype
            assert np.array_equal(found[name], values)


def test_the_same_arrays_give_the_same_bytes_in_any_order() -> None:
    one, two = np.ones(3), np.zeros(2)
    assert write_npz({"a": one, "b": two}) == write_npz({"b": two, "a": one})


def test_objects_are_refused() -> None:
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FormatInvalid, match="nothing is unpickled"):
        read_npz(stream.getvalue())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_what_is_not_an_npz_is_refused(content: bytes) -> None:
    with pytest.raises(FormatInvalid, match="is not an"):
        read_npz(content)


def test_what_asks_for_a_password_is_refused_in_one_line() -> None:
    content = bytearray(write_npz({"x": np.zeros(3, np.float32)}))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # of the flags in the directory
    with pytest.raises(FormatInvalid, match="asks for a password"):
        read_npz(bytes(content))


def test_every_truncation_is_refused() -> None:
    content = write_npz({"x": np.arange(100)})
    for length in range(0, len(content), 11):
        with pytest.raises(FormatInvalid):
            read_npz(content[:length])


def test_every_flipped_byte_is_refused_or_harmless() -> None:
    content = write_npz({"x": np.arange(100)})
    for position in range(0, len(content), 2):
        broken = bytearray(content)
        broken[position] ^= 0x10
        try:
            read_npz(bytes(broken))
        except FormatInvalid:
            continue


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (281474976710656,), }",  # a petabyte
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (",
    ],
)
def test_a_header_that_claims_nonsense_is_refused(header: bytes) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        member = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
        archive.writestr("x.npy", member)
    with pytest.raises(FormatInvalid, match="damaged"):
        read_npz(stream.getvalue())


def test_a_file_that_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(FormatInvalid, match="at most 1000"):
        read_npz(write_npz({"x": np.zeros(10_000)}), max_bytes=1000)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FormatInvalid, match="No such file"):
        read_npz(tmp_path / "none.npz")
