"""What this machine is, for a profile of its class: processor, memory, accelerators, runtimes.

Everything is read from files and installed packages; nothing is started. How fast it multiplies is
measured in `probe_rate.py`.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

# Before and after the Edge TPU's firmware is loaded: coral.ai/docs/accelerator/get-started
CORAL_USB = frozenset({("1a6e", "089a"), ("18d1", "9302")})
INTEL = "0x8086"
RUNTIMES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime", "openvino": "openvino"}


@dataclass(frozen=True)
class Machine:
    """What was found.

    Args:
        cpu: The processor's own name, or "".
        memory_bytes: All of it.
        accelerators: Kinds of those that can be seen, as profiles call them.
        seen: Where they were seen.
        runtimes: Installed versions by name; "edgetpu" is the library that drives an Edge TPU.
    """

    architecture: str
    cpu: str
    cores: int
    memory_bytes: int
    accelerators: tuple[str, ...]
    seen: tuple[str, ...]
    runtimes: dict[str, str]


def machine(root: Path = Path("/")) -> Machine:
    """Look at this machine.

    Args:
        root: Below which /proc, /dev and /sys are.
    """
    tpus = [*_device_files(root, "dev", "apex_*"), *_coral_usb(root)]
    npus = _intel_npus(root)
    kinds = (["edge-tpu"] if tpus else []) + (["intel-npu"] if npus else [])
    return Machine(
        platform.machine(),
        _cpu(root),
        os.cpu_count() or 1,
        _memory_bytes(root),
        tuple(kinds),
        (*tpus, *npus),
        _runtimes(),
    )


def _cpu(root: Path) -> str:
    """x86 says "model name", boards say "Model", or the device tree does."""
    text = _text(root / "proc" / "cpuinfo")
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    if found:
        return found.group(1).strip()
    return _text(root / "proc" / "device-tree" / "model").strip("\0\n ")


def _memory_bytes(root: Path) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", _text(root / "proc" / "meminfo"), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _device_files(root: Path, *pattern: str) -> list[str]:
    """Names of device files as they are on the machine, whatever `root` is."""
    folder = root.joinpath(*pattern[:-1])
    return sorted(f"/{path.relative_to(root)}" for path in folder.glob(pattern[-1]))


def _coral_usb(root: Path) -> list[str]:
    """USB devices with the ids of Coral's accelerator: what lsusb reads, too."""
    found = []
    for folder in sorted((root / "sys" / "bus" / "usb" / "devices").glob("*")):
        ids = (_text(folder / "idVendor").strip(), _text(folder / "idProduct").strip())
        if ids in CORAL_USB:
            found.append(f"USB {ids[0]}:{ids[1]}")
    return found


def _intel_npus(root: Path) -> list[str]:
    """The driver (intel_vpu) makes /dev/accel/accelN; other makers' devices are there too."""
    return [
        name
        for name in _device_files(root, "dev", "accel", "accel*")
        if _text(root / "sys" / "class" / "accel" / Path(name).name / "device" / "vendor").strip() == INTEL
    ]


def _runtimes() -> dict[str, str]:
    found = {}
    for name, package in RUNTIMES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    library = ctypes.util.find_library("edgetpu")
    return found | ({"edgetpu": library} if library else {})


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
