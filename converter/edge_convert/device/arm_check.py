"""Whether an artifact answers on an ARM CPU as it does here: golden inputs, in emulation and on this host.

The same kernels (XNNPACK) round one element in thousands differently between processors: at most one
code is allowed, and no changed class. Float answers are held to the fidelity that two float runtimes
have. What runs the emulation is `arm.py`; what it costs in instructions is told beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_contracts.arrays import read_npz
from edge_contracts.manifest import Manifest, Task
from edge_contracts.profile import DeviceProfile
from edge_convert.binding import encode
from edge_convert.device import arm
from edge_convert.device.arm import CPUS, Userland
from edge_convert.engine import Engine, LiteRtEngine, run
from edge_convert.errors import DoesNotFit
from edge_convert.gates import MIN_FIDELITY_DB, Finding, Verdict
from edge_convert.graph import Array
from edge_convert.measures import score

MOST_LSB = 1  # study of MLPerf Tiny's whole sets: 3 of 1000 samples by one code in one element, none by two


@dataclass(frozen=True)
class ArmCheck:
    """One artifact on one emulated CPU.

    Args:
        worst_lsb: Largest difference in codes of a quantized output; None when there is none.
        sqnr_db: Worst ratio of a float output's power to the difference's; None when equal or none is float.
        same_class: Share of samples with the same top-1 class; None when it is no classifier.
        instructions: Of one inference; None when the userland cannot count.
    """

    artifact: str
    cpu: str
    samples: int
    worst_lsb: int | None
    sqnr_db: float | None
    same_class: float | None
    instructions: int | None

    @property
    def reason(self) -> str:
        """What is wrong, or ""."""
        if self.worst_lsb is not None and self.worst_lsb > MOST_LSB:
            return f"answers differ by {self.worst_lsb} codes, {MOST_LSB} allowed"
        if self.sqnr_db is not None and self.sqnr_db < MIN_FIDELITY_DB:
            return f"answers differ by {self.sqnr_db:.1f} dB, at least {MIN_FIDELITY_DB:g} asked for"
        if self.same_class is not None and self.same_class < 1:
            return f"{1 - self.same_class:.1%} of the golden inputs change their class"
        return ""

    @property
    def passed(self) -> bool:
        """Whether the artifact answers on ARM as here."""
        return not self.reason

    def fields(self) -> dict[str, Any]:
        """Plain values for a report."""
        return {
            "artifact": self.artifact,
            "cpu": self.cpu,
            "samples": self.samples,
            "worst_lsb": self.worst_lsb,
            "sqnr_db": self.sqnr_db,
            "same_class": self.same_class,
            "instructions": self.instructions,
            "passed": self.passed,
            "reason": self.reason,
        }


def compare(
    artifact: str,
    cpu: str,
    here: Mapping[str, Array],
    there: Mapping[str, Array],
    task: Task,
    instructions: int | None = None,
) -> ArmCheck:
    """Hold answers against each other, both in the file's own codes.

    Args:
        here, there: By output tensor, samples on the leading axis; a classifier's scores are the first.
    """
    first = next(iter(here))
    count = len(here[first])
    codes = {name: values for name, values in here.items() if values.dtype.kind != "f"}
    floats = {name: values for name, values in here.items() if values.dtype.kind == "f"}
    apart = [
        int(np.abs(values.astype(np.int64) - there[name].astype(np.int64)).max(initial=0))
        for name, values in codes.items()
    ]
    same = None
    if task == "classification":
        ours, theirs = (answers[first].reshape(count, -1).argmax(axis=1) for answers in (here, there))
        same = float((ours == theirs).mean())
    noise = score.worst_sqnr_db(floats, there) if floats else None
    return ArmCheck(artifact, cpu, count, max(apart, default=None), noise, same, instructions)


def check(
    artifact: str,
    content: bytes,
    engine: Engine,
    feeds: Mapping[str, Array],
    task: Task,
    userland: Userland,
    cpus: Sequence[str] = CPUS,
) -> list[ArmCheck]:
    """Run samples here and on each CPU.

    Args:
        engine: The file, opened here.
        feeds: By input tensor of the file, in its own codes.

    Raises:
        EmulationFailed: The file does not run there.
    """
    here = run(engine, feeds)
    runs = [arm.run(content, feeds, cpu, userland) for cpu in cpus]
    return [compare(artifact, r.cpu, here, r.answers, task, r.instructions) for r in runs]


def of_files(
    manifest: Manifest, files: Mapping[str, bytes], userland: Userland, cpus: Sequence[str] = CPUS
) -> list[ArmCheck]:
    """Check every artifact of a bundle that a CPU runs in LiteRT, on the bundle's golden inputs.

    Args:
        files: Contents by path, as the manifest names them.

    Raises:
        DoesNotFit: It has none.
        EmulationFailed: One does not run there.
    """
    golden = read_npz(files[manifest.golden.file.path], "golden inputs")
    checks = []
    for artifact in manifest.artifacts:
        if artifact.format != "tflite" or artifact.compiled_for:
            continue
        content = files[artifact.files[0].path]
        feeds = {b.tensor: encode(b, golden[f"input/{b.name}"]) for b in artifact.inputs}
        engine = LiteRtEngine(content)
        checks += check(artifact.id, content, engine, feeds, manifest.task, userland, cpus)
    if not checks:
        raise DoesNotFit(f"{manifest.name} for {manifest.profile} has no LiteRT artifact for a CPU to verify")
    return checks


def concerns(profile: DeviceProfile) -> bool:
    """Whether a profile's artifacts run in LiteRT on a 64-bit ARM CPU, if need be without its accelerator."""
    return profile.target == "tflite" and bool({"aarch64", "arm64"} & set(profile.architectures))


def finding(checks: Sequence[ArmCheck]) -> Finding:
    """The gate: every CPU answers as this host does."""
    failed = [one for one in checks if not one.passed]
    if failed:
        worst = failed[0]
        return Finding("arm", Verdict.FAIL, f"on an emulated {worst.cpu}: {worst.reason}")
    cost = ", ".join(f"{one.cpu} {one.instructions} instructions" for one in checks if one.instructions)
    cpus = " and ".join(dict.fromkeys(one.cpu for one in checks))
    says = f"{checks[0].samples} golden inputs are answered on an emulated {cpus} as here"
    return Finding("arm", Verdict.PASS, says + (f"; {cost}" if cost else ""))
