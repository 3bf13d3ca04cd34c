"""edge-convert: from a trained model to a signed bundle that a class of device can run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# numpy's BLAS on one thread, unless the user says otherwise: the last bits of a sum must not depend on the
# number of cores, and on a busy host its threads wait for each other (measured: a build took twice as long).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# openvino reports usage to its maker as soon as it is imported. None makes the import of its telemetry client
# fail, which it takes as "not installed". Here, because this runs before any module of ours can import it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from edge_convert.api import convert

__all__ = ["convert"]


def __getattr__(name: str) -> Any:
    """Import `convert` when it is first asked for: the command line needs no runtimes to print its help."""
    if name == "convert":
        from edge_convert.api import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
