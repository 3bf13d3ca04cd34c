"""Arrays in NumPy's form, read as numpy reads them, and by several threads at once."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_contracts import npy


def written(array: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.int8).reshape(2, 3)),
        np.array(7, dtype=">u2"),
        np.zeros((0, 3), np.float64),
        np.array(["ab", "c"]),
        np.zeros(3, "S0"),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_it_is_read_as_numpy_reads_it(array: np.ndarray[Any, Any]) -> None:
    for version in ((1, 0), (2, 0)):
        content = written(array, version)
        theirs = np.lib.format.read_array(io.BytesIO(content))
        stream = io.BytesIO(content + b"the next")
        ours = npy.read_array(stream, 1 << 20)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes("A") == theirs.tobytes("A")
        assert ours.flags.f_contiguous == theirs.flags.f_contiguous
        assert ours.flags.writeable
        assert stream.read() == b"the next"


WHOLE = written(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "magic"),
        (b"\x93NUMPY", "magic"),
        (b"\x93NUMPY\x03\x00" + WHOLE[8:], "version 3"),
        (WHOLE[:40], "EOF"),
        (WHOLE[:-1], "breaks off: 23 of 24"),
        (WHOLE.replace(b"(2, 3)", b"(2,-3)"), "claims the shape"),
        (WHOLE.replace(b"(2, 3)", b"(2, x)"), "malformed"),
        (WHOLE.replace(b"'<f4'", b"'|O' "), "holds objects"),
        (WHOLE[:8] + (20_000).to_bytes(2, "little") + b" " * 20_000, "large"),
    ],
    ids=["empty", "magic alone", "version", "header", "values", "negative", "name", "objects", "long header"],
)
def test_what_is_not_whole_or_not_numbers_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        npy.read_array(io.BytesIO(content), len(content))


def test_a_header_that_claims_more_than_there_is_takes_no_memory() -> None:
    claim = WHOLE.replace(b"(2, 3), }           ", b"(9999999999999, 3), }")
    assert len(claim) == len(WHOLE) + 1
    with pytest.raises(ValueError, match="claims"):
        npy.read_array(io.BytesIO(claim), len(claim))


@pytest.fixture
def threads_change_often() -> Iterator[None]:
    """Other threads run wherever the collector does, also in the middle of `ast.literal_eval`."""
    before, interval = gc.get_threshold(), sys.getswitchinterval()

    def give_way(_phase: str, _info: dict[str, int]) -> None:
        sum(range(50))

    gc.callbacks.append(give_way)
    gc.set_threshold(3)
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*before)
    gc.callbacks.remove(give_way)


def test_threads_read_at_once(threads_change_often: None) -> None:
    failed: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(200):
                npy.read_array(io.BytesIO(WHOLE), len(WHOLE))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
