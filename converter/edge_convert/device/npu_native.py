"""Compile a model for an Intel NPU with the installed openvino: a command for `npu.py`.

    python -m edge_convert.device.npu_native MODEL.xml PLATFORM PRECISION OUTPUT.blob

In a process of its own because the compiler prints its estimate to the log and has been seen to crash on
models that it does not like. The library must be beside openvino's own or on the loader's path.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(model: str, platform: str, output: str) -> None:
    """Compile and export; openvino says the rest on the output that is read.

    Raises:
        RuntimeError: There is no compiler, or it refuses the model.
    """
    import openvino

    core = openvino.Core()
    core.set_property("NPU", {"LOG_LEVEL": "LOG_INFO"})
    options = {"NPU_COMPILER_TYPE": "PLUGIN", "NPU_PLATFORM": platform, "LOG_LEVEL": "LOG_INFO"}
    compiled = core.compile_model(core.read_model(model), "NPU", options)
    Path(output).write_bytes(compiled.export_model().getvalue())
    print(f"compiler openvino {openvino.__version__}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[4])
    except RuntimeError as error:
        print(" ".join(str(error).split())[-250:], flush=True)
        sys.exit(1)
