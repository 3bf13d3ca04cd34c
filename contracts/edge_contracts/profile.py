"""Device profiles: what a class of device can run, read from `device-profiles/NAME.toml`.

A profile may extend another and then states only what differs. A bundle made for a profile fits
every profile that extends it: `lineage` is the list to search, nearest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from edge_contracts.errors import FormatTooNew, ProfileInvalid, ProfileUnknown
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.model import Finite, Frozen, Identifier, Positive, Share, matching
from edge_contracts.nearest import meant

FORMAT = "edgefleet.profile/1"

Precision = Literal["int8", "float16", "float32"]
RuntimeName = Annotated[str, matching("^[a-z][a-z0-9_]*$")]


class Accelerator(Frozen):
    """The part of the device that is not its CPU.

    Args:
        kind: "edge-tpu" or "intel-npu".
        platform: What the vendor's compiler calls it ("3720"), or "" where there is one only.
        memory_bytes: On-chip memory for parameters; None when it is not a limit that one plans by.
        min_mapped_share: Refuse an artifact of whose operators a smaller share would run on it, 0 to 1.
    """

    kind: Literal["edge-tpu", "intel-npu"]
    platform: str = ""
    memory_bytes: Annotated[int, Meta(gt=0)] | None = None
    min_mapped_share: Share = 0.0


class DeviceProfile(Frozen):
    """What one class of device can run.

    Args:
        extends: Name of the profile that this one refines, or "".
        target: What the emitter writes: "tflite" or "openvino".
        runtimes: Runtimes of the agent in order of preference; each is a file in agent/edge_agent/runtimes.
        precisions: In order of preference; the first that passes the gates is taken.
        architectures: What `platform.machine()` says on such a device; the agent warns on others.
        memory_bytes: What a model may take at run time: artifact, activations and runtime arena.
        artifact_bytes: Largest artifact that may be installed.
        latency_p95_ms: Budget of one inference on the device, milliseconds.
        static_shapes, explicit_padding: What the device asks for: every dimension known, padding written as
            numbers and not as SAME. Whatever stands here, an artifact is made so where its format can say it.
        integer_io: Inputs and outputs must be int8 too.
        per_channel_dense: The device's kernels take one weight scale per output of a dense layer.
        macs_per_second: Sustained multiply-accumulates by precision, for predictions only.
        source: Where the figures come from.
    """

    format: Literal["edgefleet.profile/1"]
    name: Identifier
    title: str
    extends: str = ""
    target: Literal["tflite", "openvino"]
    runtimes: Annotated[tuple[RuntimeName, ...], Meta(min_length=1)]
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1)]
    architectures: Annotated[tuple[str, ...], Meta(min_length=1)]
    memory_bytes: Annotated[int, Meta(gt=0)]
    artifact_bytes: Annotated[int, Meta(gt=0)]
    latency_p95_ms: Positive
    static_shapes: bool = True
    explicit_padding: bool = False
    integer_io: bool = False
    per_channel_dense: bool = False
    accelerator: Accelerator | None = None
    macs_per_second: Mapping[Precision, Finite] = field(default_factory=dict)
    source: str = ""


def builtin_names() -> list[str]:
    """Names of the profiles that come with the distribution, sorted."""
    folder = resources.files("edge_profiles")
    return sorted(e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml"))


def load_profile(name: str) -> DeviceProfile:
    """Read a profile by name, or from a file when the name ends in `.toml`.

    Raises:
        ProfileUnknown: No such profile; the nearest name is given.
        ProfileInvalid: It has a fault.
    """
    raw, what, _ = _resolve(name)
    return parse_profile(raw, what)


def lineage(name: str) -> tuple[str, ...]:
    """The profile and those it extends, nearest first."""
    return _resolve(name)[2]


def parse_profile(raw: dict[str, Any], what: str) -> DeviceProfile:
    """Turn a table into a profile, or refuse on one line.

    Raises:
        ProfileInvalid: An unknown key (the nearest right one is named), a missing or wrong value.
        FormatTooNew: Another version of the format.
    """
    found = raw.get("format")
    if isinstance(found, str) and found != FORMAT and found.startswith("edgefleet.profile/"):
        raise FormatTooNew(f"{what} has format {found!r}, this release reads {FORMAT!r}; update edgefleet")
    try:
        return DeviceProfile.model_validate(raw)
    except ValidationError as error:
        known = [*DeviceProfile.__struct_fields__, *Accelerator.__struct_fields__]
        raise ProfileInvalid(f"{what}: {first_fault(error, known)}") from None


def _resolve(name: str) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """The merged table of a profile, what to call it in messages, and its lineage."""
    chain: list[dict[str, Any]] = []
    names: list[str] = []
    wanted, folder = name, None
    what = f"profile {name}"
    while wanted:
        raw, folder = _read(wanted, folder)
        if not chain:
            # a fault is reported in the file's own words, before inherited values can hide it
            what = wanted if wanted.endswith(".toml") else f"profile {wanted}"
        own = str(raw.get("name", wanted))
        if own in names:
            raise ProfileInvalid(f"profile {name}: extends itself through {' -> '.join([*names, own])}")
        chain.append(raw)
        names.append(own)
        parent = raw.get("extends", "")
        if not isinstance(parent, str):
            raise ProfileInvalid(f"{what}: extends must be the name of a profile, found {parent!r:.80}")
        wanted = parent
    merged: dict[str, Any] = {}
    for raw in reversed(chain):
        merged |= raw
    merged["extends"] = chain[0].get("extends", "")
    return merged, what, tuple(names)


def _read(name: str, folder: Path | None) -> tuple[dict[str, Any], Path | None]:
    """One file's table; a name beside the file that mentions it is looked for there first."""
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ProfileUnknown(f"no profile file {name}")
        return _parse_toml(path.read_bytes(), name), path.parent
    if folder is not None and (folder / f"{name}.toml").is_file():
        return _parse_toml((folder / f"{name}.toml").read_bytes(), f"profile {name}"), folder
    names = builtin_names()
    if name not in names:
        raise ProfileUnknown(f"no profile {name!r}{meant(name, names)}")
    content = (resources.files("edge_profiles") / f"{name}.toml").read_bytes()
    return _parse_toml(content, f"profile {name}"), folder


def _parse_toml(content: bytes, what: str) -> dict[str, Any]:
    import tomllib  # a device keeps its profile as JSON, and reads no TOML

    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileInvalid(f"{what} is not TOML: {error}") from None
