"""WAV files to tensors."""

from __future__ import annotations

from typing import Any

import input_bundles
import numpy as np
import pytest
from input_bundles import wav
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.input.prepare import prepare
from edge_contracts.processing import Sound


def made(payload: bytes, size: int = 4, dtype: str = "float32", **rule: Any) -> NDArray[Any]:
    stated = Sound.model_validate({"kind": "sound", "sample_rate_hz": 8000} | rule)
    manifest = input_bundles.manifest({"shape": (1, size), "dtype": dtype, "prepare": stated})
    return prepare(manifest, "x", payload, "audio/wav").inputs["x"]


def refused(payload: bytes, **rule: Any) -> str:
    with pytest.raises(InputRefused) as error:
        made(payload, **rule)
    return error.value.code


def test_sixteen_bits_become_shares_of_32768() -> None:
    values = np.array([0, 16384, -32768, 32767], "<i2")
    assert made(wav(values, 8000)).tolist() == [[0.0, 0.5, -1.0, 32767 / 32768]]


@pytest.mark.parametrize(
    ("raw", "width"),
    [
        (np.array([128, 192, 0, 255], np.uint8), 1),
        (np.array([0, 0, 0, 0, 0, 0x40, 0, 0, 0x80, 0xFF, 0xFF, 0x7F], np.uint8), 3),
        (np.array([0, 1 << 30, -(1 << 31), (1 << 31) - 1], "<i4"), 4),
    ],
)
def test_other_widths_have_the_same_scale(raw: NDArray[Any], width: int) -> None:
    found = made(wav(raw, 8000, width))
    assert np.allclose(found, [[0, 0.5, -1, 1]], atol=1 / 100)
    assert found.max() <= 1


def test_channels_are_averaged() -> None:
    values = np.array([100, 300, -100, -300, 0, 2, 32767, -32767], "<i2")
    assert made(wav(values, 8000, channels=2), scale="int16", dtype="int32").tolist() == [[200, -200, 1, 0]]


def test_a_longer_sound_becomes_windows_that_hop() -> None:
    values = np.arange(9, dtype="<i2")
    assert made(wav(values, 8000), scale="int16", hop=2).tolist() == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [4, 5, 6, 7],
    ]


def test_a_longer_sound_is_refused_where_no_hop_is_stated() -> None:
    assert refused(wav(np.arange(9, dtype="<i2"), 8000)) == "sound-length"


def test_a_shorter_sound_is_refused_or_filled_with_silence() -> None:
    short = wav(np.array([16384, 16384], "<i2"), 8000)
    assert refused(short) == "sound-length"
    assert made(short, short="pad").tolist() == [[0.5, 0.5, 0, 0]]


def test_another_rate_is_refused() -> None:
    assert refused(wav(np.arange(4, dtype="<i2"), 16000)) == "sound-rate"


def test_what_is_no_wav_is_refused() -> None:
    whole = wav(np.arange(4, dtype="<i2"), 8000)
    assert refused(b"") == "damaged"
    assert refused(b"ID3 mp3") in ("damaged", "sound-format")
    assert refused(whole[:30]) == "damaged"
    floats = bytearray(whole)
    floats[20] = 3  # WAVE_FORMAT_IEEE_FLOAT
    assert refused(bytes(floats)) == "sound-format"
