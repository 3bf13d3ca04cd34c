"""One kept input as a device sends it: a COSE_Sign1 bound to `edge/v1/<fleet>/<device>/review`. Pure.

The format is in docs/doubt.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from edge_contracts import cose
from edge_contracts.arrays import Arrays, read_npz
from edge_contracts.errors import FormatInvalid
from edge_contracts.keys import PublicKey
from edge_contracts.topics import PREFIX
from edge_fleet.model import Digest, Frozen, Identifier, parse_object

MAX_BYTES = 8 << 20
MAX_UNPACKED_BYTES = 64 << 20


class About(Frozen):
    """What the device knows of an input that it kept.

    Args:
        request: What the client called it.
        time_ms: The device's clock.
        answer, answer_name: Class that the model gave.
        label, label_name: The right class, once somebody has said it.
        other: Class that a shadow gave.
    """

    format: Literal["edgefleet.review/1"] = "edgefleet.review/1"
    request: str = Field(default="", max_length=300)
    time_ms: int = Field(ge=0, lt=1 << 63)
    bundle: Digest
    artifact: str = Field(max_length=64)
    reason: str = Field(max_length=32)
    confidence: float | None = None
    answer: int | None = Field(default=None, ge=-(1 << 31), lt=1 << 31)
    answer_name: str = Field(default="", max_length=200)
    label: int | None = Field(default=None, ge=-(1 << 31), lt=1 << 31)
    label_name: str = Field(default="", max_length=200)
    other: int | None = None


class Review(Frozen):
    """The payload of one envelope; `inputs` are the bytes of an .npz, by tensor name."""

    v: Literal[1]
    type: Literal["review"]
    device: Identifier
    number: int = Field(ge=0)
    about: About
    inputs: bytes = Field(max_length=MAX_BYTES)


def claimed_device(envelope: bytes) -> str:
    """Whose envelope it says it is; nothing is believed before `open_review`.

    Raises:
        FormatInvalid: It is no envelope of a kept input.
    """
    raw = cose.decode(cose.parse(envelope, MAX_BYTES).payload, "a kept input")
    device = raw.get("device") if isinstance(raw, dict) else None
    if not isinstance(device, str):
        raise FormatInvalid("a kept input does not say which device it is of")
    return device


def open_review(envelope: bytes, fleet: str, device: str, key: PublicKey) -> Review:
    """A kept input that this device signed, with inputs that can be read.

    Raises:
        FormatInvalid: It is not one, or its arrays are damaged or too large.
        KeyUnknown, SignatureInvalid: Another has signed it.
    """
    payload = cose.verify(envelope, f"{PREFIX}/{fleet}/{device}/review", key, MAX_BYTES)
    review = parse_object(Review, cose.decode(payload, "a kept input"), "a kept input")
    if review.device != device:
        raise FormatInvalid(f"a kept input of {review.device} is signed by {device}")
    inputs_of(review)
    return review


def inputs_of(review: Review) -> Arrays:
    """Its inputs by tensor name, each of shape (1, ...).

    Raises:
        FormatInvalid: Damaged, too large, or not one sample.
    """
    arrays = read_npz(review.inputs, "a kept input", MAX_UNPACKED_BYTES)
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != 1 or array.dtype.kind not in "fiub":
            found = f"{array.dtype} {array.shape}"
            raise FormatInvalid(f"a kept input's {name!r:.80} is {found}; expected one sample")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FormatInvalid(f"a kept input's {name!r:.80} holds numbers that are not finite")
    return arrays
