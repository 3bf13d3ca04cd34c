"""A device profile as a commented TOML file, and its fields in words: the one place that describes them.

`docs/profiles.md` holds the table that `table_of_fields` makes; a test compares them, and these words
with the fields of `edge_contracts.profile`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from edge_contracts.fields import Field
from edge_contracts.model import Frozen
from edge_contracts.profile import Accelerator, DeviceProfile

WIDTH = 100
FIELDS: Mapping[str, str] = {
    "format": "Always this; another version is refused with the advice to update.",
    "name": "How commands and bundles call it: 1 to 64 of A-Z a-z 0-9 _ -.",
    "title": "One line for people.",
    "extends": "Name of the profile that this one refines, or nothing; then only what differs needs to be "
    "said, and bundles for that profile fit this one too. A file beside this one is looked for first.",
    "target": 'What is written: "tflite" (LiteRT, Edge TPU) or "openvino" (Intel CPU and NPU).',
    "runtimes": "Runtimes of the agent in order of preference: litert, edgetpu, openvino.",
    "precisions": "In order of preference; the first whose candidate passes the gates is taken.",
    "architectures": "What `uname -m` says on such a device; the agent warns on others.",
    "memory_bytes": "What a model may take at run time: the artifact, and activations at their peak.",
    "artifact_bytes": "Largest artifact that may be installed.",
    "latency_p95_ms": "Budget of one inference on the device, milliseconds; the trial on the device holds "
    "the model to it.",
    "static_shapes": "Every dimension must be known; whatever stands here, every artifact is made so.",
    "explicit_padding": "Padding must be written as numbers, not as SAME (Intel NPU); whatever stands here, "
    "every OpenVINO artifact is made so.",
    "integer_io": "Inputs and outputs must be int8 too (Edge TPU).",
    "per_channel_dense": "The device's kernels take one weight scale per output of a dense layer.",
    "accelerator": "The part of the device that is not its CPU; nothing when there is none.",
    "macs_per_second": "Sustained multiply-accumulates by precision, one inference at a time; for "
    "predictions only, which say so.",
    "source": "Where the figures come from: a data sheet, a measurement, a guess.",
}
ACCELERATOR_FIELDS: Mapping[str, str] = {
    "kind": '"edge-tpu" or "intel-npu".',
    "platform": 'What the vendor\'s compiler calls it ("3720", "4000"), or nothing where there is one only.',
    "memory_bytes": "On-chip memory for parameters; nothing when it is not a limit that one plans by.",
    "min_mapped_share": "Refuse an artifact of whose operators a smaller share would run on it, 0 to 1.",
}


def to_toml(profile: DeviceProfile, head: Sequence[str] = ()) -> str:
    """The profile with every field and what each means; it reads back as the same value.

    Args:
        head: Comment lines to begin with.
    """
    values = profile.model_dump(mode="json", exclude_none=True)
    lines = [f"# {line}".rstrip() for line in head]
    for name, words in FIELDS.items():
        if name in ("accelerator", "extends") and not values.get(name):
            lines += ["", *_comment(words), f"# {_example(name)}"]
        elif name != "accelerator":
            lines += ["", *_comment(words), f"{name} = {_value(values[name])}"]
    if profile.accelerator is not None:
        lines += ["", *_comment(FIELDS["accelerator"]), "[accelerator]"]
        for name, words in ACCELERATOR_FIELDS.items():
            value = values["accelerator"].get(name)
            shown = "" if value is None else f"{name} = {_value(value)}"
            lines += [*_comment(words), shown or f"# {name} = 8388608"]
    return "\n".join(lines).lstrip("\n") + "\n"


def table_of_fields() -> str:
    """Every field as a Markdown table: its type, its default, what it means."""
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    rows += [_row(name, DeviceProfile.model_fields[name], words) for name, words in FIELDS.items()]
    rows += [
        _row(f"accelerator.{name}", Accelerator.model_fields[name], words)
        for name, words in ACCELERATOR_FIELDS.items()
    ]
    return "\n".join(rows) + "\n"


def _row(name: str, field: Field, words: str) -> str:
    return f"| `{name}` | {_type(field)} | {_default(field)} | {words} |"


def _type(field: Field) -> str:
    """As a person who writes TOML would say it."""
    kind = str(field.bare)
    for part, said in (
        ("Mapping", "table of numbers"),
        ("Accelerator", "table"),
        ("tuple", "list of texts"),
        ("bool", "true or false"),
        ("int", "whole number"),
        ("float", "number"),
    ):
        if part in kind and "Literal" not in kind.split("[")[0]:
            return said
    return "text"


def _default(field: Field) -> str:
    if field.is_required:
        return "must be given"
    default = field.default
    if default in ("", None, {}) or isinstance(default, Frozen):
        return "nothing"
    return f"`{_value(default)}`"


def _comment(words: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words, WIDTH - 2)]


def _example(name: str) -> str:
    return 'extends = "arm-cpu"' if name == "extends" else '[accelerator]: kind = "edge-tpu" ...'


def _value(value: Any) -> str:
    """As TOML; texts and numbers are written as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if "e" in short and float(short) == value else repr(value)
    return json.dumps(value, ensure_ascii=False)
