"""Manifests with rules of the tensor contract, made from the tiny bundles of `agent_bundles`. No tests."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import agent_bundles
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Manifest, TensorSpec


def manifest(
    inputs: Mapping[str, Any] | Sequence[TensorSpec],
    outputs: Sequence[TensorSpec] = (TensorSpec(name="scores", shape=(1, 3)),),
    **more: Any,
) -> Manifest:
    """A manifest that states these tensors; its artifacts are bound to them by name and nothing else.

    Args:
        inputs: Tensors, or the fields of the only one beside its name "x".
        more: Fields of the manifest.
    """
    specs = [TensorSpec(name="x", **inputs)] if isinstance(inputs, Mapping) else list(inputs)
    plain = open_bundle(agent_bundles.build()).manifest.model_dump()
    (artifact,) = plain["artifacts"]
    for kind, tensors in (("inputs", specs), ("outputs", outputs)):
        artifact[kind] = [
            {"name": t.name, "tensor": t.name, "dtype": t.dtype, "shape": t.shape} for t in tensors
        ]
        plain[kind] = [t.model_dump() for t in tensors]
    return Manifest.model_validate(plain | more)


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise over a slope: no pixel is like its neighbour, and no resizing rule gives what another gives."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    pixels = np.clip(slope + rng.integers(0, 60, (height, width, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def wav(values: NDArray[Any], rate: int, width: int = 2, channels: int = 1) -> bytes:
    """Integer PCM; `values` are bytes-to-be in the file's own dtype, channels in turn."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(width)
        sound.setframerate(rate)
        sound.writeframes(values.tobytes())
    return stream.getvalue()
