"""Manifests with rules of the tensor contract, made from the tiny bundles of `agent_bundles`. No tests."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_nets import picture_net

from edge_agent.inference.session import Session
from edge_contracts.bundle import open_bundle, pack
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.signing import sign_manifest
from edge_convert.emitters.tflite import emit


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


def picture_bundle(**rules: Any) -> bytes:
    """A signed bundle of a real net that takes 12 x 12 RGB pictures as 0..1 and gives ten numbers.

    Args:
        rules: Fields of the input to state beside `prepare`.
    """
    made = open_bundle(agent_bundles.around(emit(picture_net())))
    (spec,) = made.manifest.inputs
    fields = spec.model_dump() | {
        "layout": "NHWC",
        "color_order": "RGB",
        "prepare": {"kind": "picture", "resample": "pillow-bilinear", "divisor": 255},
    }
    stated = Manifest.model_validate(
        made.manifest.model_dump()
        | {"inputs": [fields | rules], "interpret": {"kind": "classes", "activation": "softmax", "top_k": 2}}
    )
    return pack(stated, sign_manifest(stated, agent_bundles.KEY), made.contents)


def opened(folder: Path, bundle: bytes) -> tuple[Session, str]:
    """A session of a bundle extracted below a folder, and its digest."""
    made = open_bundle(bundle)
    made.extract(folder)
    return Session.open(folder, made.manifest), made.digest


def video(path: Path, frames: int, width: int = 32, height: int = 24) -> list[int]:
    """A real video file (Motion JPEG in AVI) of grey frames, each of another level; the levels."""
    opencv = pytest.importorskip("cv2", reason="extra [camera]")
    writer = opencv.VideoWriter(str(path), opencv.VideoWriter_fourcc(*"MJPG"), 25.0, (width, height))
    levels = [20 + (37 * i) % 200 for i in range(frames)]
    for level in levels:
        writer.write(np.full((height, width, 3), level, np.uint8))
    writer.release()
    return levels
