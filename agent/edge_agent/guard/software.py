"""The versions that decide what a model answers: kernel, agent, runtime, drivers.

Read from the file system without loading a library: a driver that crashes as it is loaded must not take
whoever asks for its version with it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from edge_agent import installed
from edge_agent.errors import AgentError
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import CPU
from edge_contracts.digest import digest_of_file, short

# Libraries and kernel modules by the runtime that uses them.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "edgetpu": ("libedgetpu.so.1",),
    # Intel's NPU: the level-zero loader and the driver under both of its names
    "openvino": ("libze_loader.so.1", "libze_intel_npu.so.1", "libze_intel_vpu.so.1"),
}
MODULES: Mapping[str, tuple[str, ...]] = {"edgetpu": ("apex", "gasket"), "openvino": ("intel_vpu",)}
FOLDERS = ("usr/local/lib", "usr/lib", "lib")
MAX_TEXT = 64  # characters of a version, as messages.Window allows


def read_software(runtime: str, device: str, root: Path = Path("/")) -> dict[str, str]:
    """Versions by name: "kernel", "agent", the runtime's, and its drivers' where it uses a device.

    Args:
        root: Where /usr/lib and /sys are.
    """
    found = {"kernel": platform.release(), "agent": installed.version("edgefleet")}
    try:
        found[runtime] = registry.load(runtime).version()
    except AgentError:
        found[runtime] = ""
    if device != CPU:
        for name in LIBRARIES.get(runtime, ()):
            if path := _find_library(name, root):
                found[name.partition(".so")[0]] = _library_version(path)
        for name in MODULES.get(runtime, ()):
            if version := _module_version(root / "sys/module" / name):
                found[name] = version
    return {name: version[:MAX_TEXT] for name, version in found.items()}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What is another version than before, for a person; "" when nothing is.

    What is only in one of them is another runtime's: nothing is known of it.
    """
    both = sorted(before.keys() & now.keys())
    return ", ".join(
        f"{name} {before[name] or 'none'} -> {now[name] or 'none'}"
        for name in both
        if before[name] != now[name]
    )


def _find_library(name: str, root: Path) -> Path | None:
    for folder in FOLDERS:
        for path in (root / folder / name, *sorted((root / folder).glob(f"*-linux-gnu*/{name}"))):
            if path.exists():
                return path.resolve()
    return None


def _library_version(path: Path) -> str:
    """Its file's name and digest: libedgetpu has the same name in every release."""
    try:
        stat = path.stat()
        return f"{path.name} {_digest(path, stat.st_size, stat.st_mtime_ns)}"
    except OSError:
        return path.name


@lru_cache(maxsize=32)
def _digest(path: Path, _size: int, _changed_ns: int) -> str:
    return short(digest_of_file(path))


def _module_version(folder: Path) -> str:
    for name in ("version", "srcversion"):
        try:
            return (folder / name).read_text().strip()
        except OSError:
            continue
    return ""
