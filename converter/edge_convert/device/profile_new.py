"""A new profile: from one that is like it, or with what was found out about this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_contracts.profile import DeviceProfile, Precision, load_profile, parse_profile
from edge_convert.device.probe import Machine

_ARM = frozenset({"aarch64", "arm64"})
# architecture -> every name that platforms give it
_NAMES = {"aarch64": ("aarch64", "arm64"), "arm64": ("aarch64", "arm64"), "x86_64": ("x86_64", "AMD64")}
# kind of accelerator -> a profile of its devices
_LIKE_ACCELERATOR = {"edge-tpu": "coral-usb", "intel-npu": "intel-npu"}
_SHARE_OF_MEMORY = 4  # one model may take a quarter: the system and the application live there too
_KEPT_DIGITS = 3  # of a measured rate: another run differs in the third


def like(name: str, model: str) -> DeviceProfile:
    """A profile of a new name that says in full what another one does.

    Raises:
        ProfileUnknown: There is no such other.
        ProfileInvalid: The name is none.
    """
    values = load_profile(model).model_dump(mode="json", exclude_none=True)
    return _made(values, name=name, extends="", source=f"copied from {model}; change what differs")


def of_machine(name: str, machine: Machine, rates: Mapping[Precision, float]) -> DeviceProfile:
    """A profile of this machine's class.

    An accelerator that was seen takes the demands and the peak rates of its kind: rates of an accelerator
    are not measured here.

    Args:
        rates: Multiply-accumulates per second that its processor sustains.

    Raises:
        ProfileInvalid: The name is none.
    """
    kind = machine.accelerators[0] if machine.accelerators else ""
    own = "arm-cpu" if machine.architecture in _ARM else "x86-cpu"
    values = load_profile(_LIKE_ACCELERATOR.get(kind, own)).model_dump(mode="json", exclude_none=True)
    measured = {precision: _rounded(rate) for precision, rate in sorted(rates.items())}
    source = f"profiles new --probe on {machine.cpu or machine.architecture}, {machine.cores} cores"
    changes: dict[str, Any] = {
        "name": name,
        "title": machine.cpu or f"{machine.architecture} machine",
        "extends": "",
        "architectures": _NAMES.get(machine.architecture, (machine.architecture,)),
        "source": f"{source}; budgets are a guess",
    }
    if machine.memory_bytes:
        changes["memory_bytes"] = machine.memory_bytes // _SHARE_OF_MEMORY
        changes["artifact_bytes"] = min(values["artifact_bytes"], changes["memory_bytes"])
    if kind:
        changes["source"] = f"{source}; {kind} seen, its rates are the data sheet's peak; budgets are a guess"
    else:
        changes["macs_per_second"] = measured
    return _made(values, **changes)


def head_of(machine: Machine | None) -> list[str]:
    """Comment lines for the file: what was found, and what to do with it."""
    lines = ["A device profile; docs/profiles.md. Check it with: edge-convert profiles show FILE"]
    if machine is None:
        return lines
    found = ", ".join(f"{name} {version}" for name, version in machine.runtimes.items()) or "none"
    lines += [
        f"Found: {machine.cpu or machine.architecture}, {machine.cores} cores, {machine.memory_bytes} bytes",
        f"Accelerators: {', '.join(machine.seen) or 'none seen'}",
        f"Runtimes installed: {found}",
    ]
    if len(machine.accelerators) > 1:
        others = ", ".join(machine.accelerators[1:])
        lines.append(f"This profile is for the first accelerator; make another for: {others}")
    return lines


def _made(values: dict[str, Any], **changes: Any) -> DeviceProfile:
    """Checked as a file of the same content would be."""
    return parse_profile(values | changes, f"profile {changes['name']}")


def _rounded(rate: float) -> float:
    return float(f"{rate:.{_KEPT_DIGITS}g}")
