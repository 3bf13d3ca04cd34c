"""Which operators the NPU compiler takes: every case of the tests, compiled one by one.

    EDGEFLEET_NPU_COMPILER=... PYTHONPATH=tests/support python examples/npu-compiler/operators.py

Prints the uses that are refused, and the lists that `edge_convert/device/npu_rules.py` holds.
"""

from __future__ import annotations

import numpy as np
from tflite_cases import CASES, graph_of

from edge_convert.device import npu
from edge_convert.emitters.openvino import emit


def main() -> None:
    """Compile every case for both platforms."""
    compiler = npu.find()
    if compiler is None:
        raise SystemExit(f"set {npu.VARIABLE}; examples/npu-compiler/setup.sh makes one")
    taken: dict[str, list[bool]] = {}
    for case in CASES:
        xml, weights = emit(graph_of(case, np.random.default_rng(8)), None, "float16")
        for platform in npu.PLATFORMS:
            result = npu.compile_form(compiler, xml, weights, "float16", platform, timeout_s=60)
            taken.setdefault(case.op.value, []).append(result.compiled)
            if not result.compiled:
                print(f"{case.id} on {platform}: {result.refusal}", flush=True)
    print("taken:", ", ".join(sorted(op for op, all_of in taken.items() if all(all_of))))
    print("in some uses:", ", ".join(sorted(op for op, uses in taken.items() if any(uses) and not all(uses))))
    print("refused:", ", ".join(sorted(op for op, uses in taken.items() if not any(uses))))


if __name__ == "__main__":
    main()
