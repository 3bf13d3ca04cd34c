"""Records from a pipe, and what becomes of them by the contract of the open model."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import agent_bundles
import input_bundles
import numpy as np
import pytest
from input_bundles import encoded, picture
from numpy.typing import NDArray

from edge_agent.errors import StreamLost
from edge_agent.inference.source import BadFile, Frame, Sample
from edge_agent.input.framing import framed
from edge_agent.input.pipe import pipe_frames
from edge_agent.input.sources import opened_source
from edge_agent.input.stream import StreamSource
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import TensorSpec

PLAIN = open_bundle(agent_bundles.build()).manifest


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def long(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


def frames(content: bytes) -> list[Frame]:
    return list(pipe_frames(io.BytesIO(content), "pipe", lambda: True))


def test_arrays_and_pictures_may_follow_each_other() -> None:
    image = encoded(picture(9, 9), "JPEG")
    rows = np.arange(4, dtype=np.float32)
    found = frames(npy(rows) + long(image) + npy(np.asfortranarray(rows.reshape(2, 2))) + long(b"{"))
    assert [f.origin for f in found] == ["pipe:0", "pipe:1", "pipe:2", "pipe:3"]
    assert [f.media_type for f in found] == ["", "image/jpeg", "", "application/json"]
    assert np.array_equal(np.asarray(found[0].load()), rows)
    assert found[1].load() == image
    assert np.array_equal(np.asarray(found[2].load()), rows.reshape(2, 2))


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x00",
        long(b"abc")[:-1],
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff" + b"x" * 99,
        npy(np.zeros(4))[:-1],
        npy(np.zeros(4))[:20],
        b"\x93NUMPX" + b"\x01\x00" * 50,
        npy(np.zeros(4)).replace(b"\x01\x00v", b"\x09\x00v", 1),
        npy(np.zeros(4)).replace(b"(4,)", b"(-4,"),
    ],
)
def test_a_pipe_that_cannot_be_followed_ends(content: bytes) -> None:
    whole = npy(np.zeros(4))
    with pytest.raises(StreamLost, match="pipe:1 "):
        frames(whole + content)


def test_an_absurd_array_is_refused_before_memory_is_taken() -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1 << 40)}
    np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(StreamLost, match="more than"):
        frames(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, np.array([object()]), allow_pickle=True)
    with pytest.raises(StreamLost, match="objects"):
        frames(stream.getvalue())


# --- by the contract


def test_an_array_may_come_with_or_without_its_batch_axis() -> None:
    for array in (np.ones((1, 4), np.float32), np.ones(4, np.float32)):
        (only,) = frames(npy(array))
        sample = framed(only, PLAIN)
        assert isinstance(sample, Sample)
        assert sample.inputs["x"].shape == (1, 4)


def test_pixels_are_prepared_where_the_contract_takes_pictures() -> None:
    manifest = open_bundle(input_bundles.picture_bundle()).manifest
    pixels = np.asarray(picture(30, 20))
    for content in (npy(pixels), long(encoded(picture(30, 20)))):
        (only,) = frames(content)
        sample = framed(only, manifest)
        assert isinstance(sample, Sample)
        assert sample.inputs["x"].shape == (1, 12, 12, 3)
        assert sample.view is not None
    (tensor,) = frames(npy(np.zeros((12, 12, 3), np.float32)))
    sample = framed(tensor, manifest)
    assert isinstance(sample, Sample)
    assert sample.view is None


def test_bytes_that_the_contract_does_not_take_cost_themselves_only() -> None:
    first, second = frames(long(b"no idea") + npy(np.ones(4, np.float32)))
    bad = framed(first, PLAIN)
    assert isinstance(bad, BadFile)
    assert (bad.code, bad.name) == ("media-type", "pipe:0")
    assert isinstance(framed(second, PLAIN), Sample)


def test_an_array_does_not_go_to_a_model_of_two_inputs() -> None:
    specs = [TensorSpec(name="a", shape=(1, 4)), TensorSpec(name="b", shape=(1, 4))]
    (only,) = frames(npy(np.ones(4, np.float32)))
    bad = framed(only, input_bundles.manifest(specs))
    assert isinstance(bad, BadFile)
    assert bad.code == "names"


def test_a_named_pipe_takes_one_writer_after_the_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in")
    with opened_source(str(tmp_path / "in"), loop=False, rate_per_s=None) as source:
        assert isinstance(source, StreamSource)
        found: list[Frame] = []

        def write(value: float) -> None:
            with (tmp_path / "in").open("wb") as stream:
                stream.write(npy(np.full(4, value, np.float32)))

        def break_off() -> None:
            with (tmp_path / "in").open("wb") as stream:
                stream.write(long(b"abc")[:-1])

        (broken := threading.Thread(target=break_off)).start()
        broken.join()
        # a writer that comes before the pipe was closed would go on in the middle of what broke off
        limit = time.monotonic() + 20
        while not isinstance(source.next(time.monotonic()), BadFile):
            assert time.monotonic() < limit
            time.sleep(0.002)
        for value in (1.0, 2.0):
            writer = threading.Thread(target=write, args=(value,))
            writer.start()
            limit = time.monotonic() + 20
            while len(found) < value:
                assert time.monotonic() < limit
                item = source.next(time.monotonic())
                if isinstance(item, Frame):
                    found.append(item)
                else:
                    time.sleep(0.002)
            writer.join()
        assert [float(np.asarray(frame.load())[0]) for frame in found] == [1.0, 2.0]
    assert not source._thread.is_alive()
