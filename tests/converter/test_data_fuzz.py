"""Damaged and absurd data files: one line of refusal each, quickly, and never gigabytes."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_contracts.arrays import write_npz
from edge_contracts.errors import ContractError
from edge_convert.data import InputPort, read_samples
from edge_convert.errors import ConvertError

PORTS = (InputPort("input", (1, 6, 5), "float32"),)
GOOD = write_npz(
    {
        "x": np.linspace(0, 1, 12 * 30, dtype=np.float32).reshape(12, 6, 5),
        "y": np.arange(12),
        "slice_pen": np.array(["red", "blue"] * 6),
    }
)


def attempt(path: Path, content: bytes) -> str:
    """Read a file: "" when it is taken, else the refusal."""
    path.write_bytes(content)
    try:
        read_samples(path, PORTS)
    except (ContractError, ConvertError) as refusal:
        return str(refusal)
    return ""


def refused(path: Path, content: bytes) -> str:
    says = attempt(path, content)
    assert says and "\n" not in says
    return says


def npy(header: str) -> bytes:
    """An array file of format 1.0 with this header and no more."""
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(member: bytes, name: str = "x.npy") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return stream.getvalue()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "data.npz"


def test_the_file_that_is_damaged_is_a_good_one(path: Path) -> None:
    assert attempt(path, GOOD) == ""


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_early_is_refused(path: Path, length: int) -> None:
    refused(path, GOOD[:length])


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_refused_or_do_no_harm(path: Path, flips: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, mask in flips:
        content[place] ^= mask
    assert "\n" not in attempt(path, bytes(content))


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_array_header_is_refused_or_read(path: Path, header: bytes) -> None:
    assert "\n" not in attempt(path, zipped(npy(header.decode("latin1"))))


SHAPES = (
    "(10**15,)",
    "(-1, 6, 5)", "(4000000000, 4000000000)", "(0, 6, 5)", "()", "(12, 6)", "(1.5, 6, 5)", "(2,)*99",
)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_absurd_dimensions_are_refused(path: Path, shape: str) -> None:
    refused(path, zipped(npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")))


@pytest.mark.parametrize("kind", ["'|O'", "'<M8[s]'", "'|V8'", "'<c16'", "'|S4'", "'<f99'", "[('a', '<f4')]"])
def test_elements_that_are_no_numbers_are_refused(path: Path, kind: str) -> None:
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': (12, 6, 5)}}"
    refused(path, zipped(npy(header) + bytes(12 * 30 * 16)))


def test_a_small_file_that_unpacks_to_much_is_refused_before_it_takes_any(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.npz"
    packed = zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with packed as archive, archive.open("x.npy", "w") as member:
        member.write(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2500000, 6, 5)}"))
        for _ in range(300):
            member.write(bytes(1_000_000))
    program = """
        import resource, sys
        from pathlib import Path
        from edge_contracts.errors import ContractError
        from edge_convert.data import InputPort, read_samples
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read_samples(Path(sys.argv[1]), (InputPort("input", (1, 6, 5), "float32"),))
        except ContractError as refusal:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, refusal)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(bomb)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    taken_kib, says = ended.stdout.split(maxsplit=1)
    assert int(taken_kib) < 64 << 10
    assert "bomb.npz unpacks to 300000" in says
