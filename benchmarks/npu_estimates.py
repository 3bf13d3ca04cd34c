"""What the Intel NPU's compiler makes of the MLPerf Tiny models, in int8 and in float16.

    EDGEFLEET_NPU_COMPILER=... python benchmarks/npu_estimates.py

Estimates are the compiler's own, microseconds of one inference; none was checked on an NPU. "chosen" is the
form that `edge-convert build` ships. Needs a compiler: examples/npu-compiler/setup.sh.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from conversion_cases import cases, converted

from edge_convert.device import npu
from edge_convert.terminal import table

PROFILES = ("intel-npu-meteor-lake", "intel-npu-lunar-lake")
HEAD = ("model", "profile", "NPU", "int8 us", "float16 us", "chosen", "SQNR dB")


def main() -> None:
    """Build, read the reports and print a table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if npu.find() is None:
        raise SystemExit(f"no NPU compiler: set {npu.VARIABLE} (examples/npu-compiler/setup.sh)")
    rows: list[tuple[str, ...]] = []
    for case in cases():
        for profile in PROFILES:
            with tempfile.TemporaryDirectory() as folder:
                bundle, _ = converted(case, profile, Path(folder))
                (path,) = Path(folder).rglob("report.json")
                (report,) = json.loads(path.read_text(encoding="utf-8"))["profiles"]
            said = {one["precision"]: one for one in report["npu_compilations"]}
            artifact = bundle.manifest.artifacts[0]
            noise = bundle.manifest.evaluation[artifact.id].sqnr_db
            rows.append(
                (
                    case.name,
                    profile,
                    said["int8"]["platform"],
                    *(_estimate(said.get(form)) for form in ("int8", "float16")),
                    artifact.precision,
                    "exact" if noise is None else f"{noise:.1f}",
                )
            )
    print(table(HEAD, rows))


def _estimate(said: dict[str, object] | None) -> str:
    if said is None:
        return "-"
    return f"{said['estimate_us']:.1f}" if said["compiled"] else "refused"


if __name__ == "__main__":
    main()
