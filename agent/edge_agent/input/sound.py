"""From a WAV file to a tensor, as `edge_contracts.processing.Sound` says."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Sound

MAX_VALUES = 50_000_000  # of all windows together: 200 MB


def from_wav(payload: bytes, rule: Sound, spec: TensorSpec) -> NDArray[Any]:
    """Windows of a sound, shape (n, ...).

    Raises:
        InputRefused: "damaged", "sound-format", "sound-rate", "sound-length" or "too-large".
    """
    try:
        with wave.open(io.BytesIO(payload)) as sound:
            channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            content = sound.readframes(sound.getnframes())
    except wave.Error as error:
        raise InputRefused("sound-format", f"not a WAV file of integer PCM: {error}") from None
    except (EOFError, OSError, ValueError) as error:
        raise InputRefused("damaged", f"not a whole WAV file: {error or 'it ends too early'}") from None
    if rate != rule.sample_rate_hz:
        raise InputRefused(
            "sound-rate", f"the sound has {rate} values a second, the model takes {rule.sample_rate_hz}"
        )
    if width not in (1, 2, 3, 4):
        raise InputRefused("sound-format", f"a WAV file of {8 * width} bits, expected 8, 16, 24 or 32")
    whole = len(content) - len(content) % (width * channels)
    values = _unit(content[:whole], width).reshape(-1, channels).mean(axis=1)
    if rule.scale == "int16":
        values = np.clip(np.rint(values * 32768), -32768, 32767)
    return _windows(values, rule, spec).astype(spec.dtype)


def _unit(content: bytes, width: int) -> NDArray[np.float64]:
    """Values of integer PCM as -1 to below 1; 8 bits are unsigned, all others signed, little-endian."""
    if width == 1:
        return (np.frombuffer(content, np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return padded.view("<i4")[:, 0].astype(np.float64) / 2**31
    return np.asarray(np.frombuffer(content, f"<i{width}").astype(np.float64) / 2 ** (8 * width - 1))


def _windows(values: NDArray[np.float64], rule: Sound, spec: TensorSpec) -> NDArray[np.float64]:
    size = int(np.prod(spec.shape[1:]))
    if values.size < size and rule.short == "pad":
        values = np.append(values, np.zeros(size - values.size))
    if values.size < size or (values.size > size and rule.hop is None):
        raise InputRefused("sound-length", f"the sound has {values.size} values, the model takes {size}")
    count = 1 + (values.size - size) // (rule.hop or size)
    if count * size > MAX_VALUES:
        raise InputRefused("too-large", f"a sound of {count} windows of {size} values is too long")
    windows = sliding_window_view(values, size)[:: rule.hop or size]
    return np.asarray(windows).reshape(count, *spec.shape[1:])
