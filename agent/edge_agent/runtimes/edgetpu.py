"""TFLite models compiled for Coral's Edge TPU, through Google's delegate library.

It takes three things, and what is missing is said precisely: an artifact that edgetpu_compiler has
prepared, the library, and the accelerator. Without them the artifact's CPU twin runs in `litert`.
The delegate is old code that can take the process down: a trial opens it in a child first.
"""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path

from edge_agent.errors import ModelInvalid, RuntimeUnavailable
from edge_agent.runtimes.base import Device
from edge_agent.runtimes.litert import LITERT_MISSING, TfliteModel, find_package, open_tflite, package_version
from edge_contracts.errors import one_line
from edge_contracts.manifest import Artifact

EDGETPU = "EDGETPU"
LIBRARY = "libedgetpu.so.1"
# coral.ai/docs/accelerator: the bare Global Unichip id until the library has loaded the firmware
USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}


def find_accelerators(root: Path = Path("/")) -> list[str]:
    """The Edge TPUs that the kernel shows.

    Args:
        root: Where /dev and /sys are.

    Returns:
        Such as "PCIe /dev/apex_0" or "USB 1-2".
    """
    found = [f"PCIe {path}" for path in sorted((root / "dev").glob("apex_*"))]
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        try:
            ids = ((device / "idVendor").read_text().strip(), (device / "idProduct").read_text().strip())
        except OSError:
            continue  # an interface or a hub without ids, or unplugged just now
        if ids in USB_IDS:
            found.append(f"USB {device.name}")
    return found


def find_fault(artifact: Artifact, accelerators: list[str], library_error: str | None) -> str:
    """What keeps an artifact off the Edge TPU, or "".

    Args:
        accelerators: From `find_accelerators`.
        library_error: Why the library does not load, None when it does.
    """
    if artifact.format != "tflite":
        return f"it opens tflite files, the artifact is {artifact.format}"
    if find_package() is None:
        return LITERT_MISSING
    faults = []
    if not artifact.compiled_for:
        why = artifact.not_compiled or "the manifest does not say why"
        faults.append(f"the artifact is not compiled for the Edge TPU ({why})")
    if library_error is not None:
        faults.append(f"{LIBRARY} does not load ({library_error})")
    if not accelerators:
        faults.append("no Edge TPU on USB or PCIe")
    return ", ".join(faults)


class EdgeTPU:
    """The runtime `edgetpu`."""

    name = "edgetpu"

    def version(self) -> str:
        """Of the interpreter that the delegate is loaded into."""
        return package_version()

    def devices(self, artifact: Artifact) -> tuple[Device, ...]:
        """The Edge TPU."""
        return (Device(EDGETPU, find_fault(artifact, find_accelerators(), _library_error())),)

    def open(self, folder: Path, artifact: Artifact, device: str, threads: int = 1) -> TfliteModel:
        """Open a compiled .tflite file with the delegate."""
        if not artifact.compiled_for:
            raise ModelInvalid(f"artifact {artifact.id} is not compiled for the Edge TPU")
        package = find_package()
        if package is None:
            raise RuntimeUnavailable(LITERT_MISSING)
        module = importlib.import_module(f"{package}.interpreter")
        try:
            delegate = module.load_delegate(LIBRARY)
        except (ValueError, OSError) as error:
            raise RuntimeUnavailable(f"the Edge TPU cannot be opened: {one_line(error)}") from None
        return open_tflite(folder, artifact, threads, (delegate,))


def _library_error() -> str | None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        return one_line(error)
    return None


RUNTIME = EdgeTPU()
