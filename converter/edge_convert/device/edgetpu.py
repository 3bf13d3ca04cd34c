"""Whether a TensorFlow Lite file suits the Edge TPU: a check by the documents, and the compiler's own word.

`check` is pure and always possible; it applies `edgetpu_rules.py`. `compile_with_edgetpu_compiler` runs
Google's closed compiler where it is installed (x86-64 Linux only) and says so where it is not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_convert.device.edgetpu_rules import PARTITION, UNCERTAIN, Reason, beyond_compiler, refusal, use_of
from edge_convert.importers.tflite_file import ModelFile, OperatorRecord, parse

PROGRAM = "edgetpu_compiler"
NOT_COMPILED = f"not compiled: {PROGRAM} is not on PATH"
CUSTOM_OPERATOR = "edgetpu-custom-op"
_BEHIND = "a result of {} comes from the CPU, and the compiler maps one part from the start"
_COMPILE_TIMEOUT_S = 600.0  # large models take minutes


@dataclass(frozen=True)
class OperatorVerdict:
    """What becomes of one operator.

    Args:
        mapped: It runs on the Edge TPU, by the documents.
        reason: Why not; None when it is mapped.
        note: A caution about an operator that is mapped, or "".
        alone: It could run there by itself, whatever comes before it.
    """

    index: int
    code: str
    version: int
    mapped: bool
    reason: Reason | None = None
    note: str = ""
    alone: bool = True


@dataclass(frozen=True)
class EdgeTpuReport:
    """What is expected of a file on the Edge TPU.

    Args:
        operators: Only one, where the file was compiled for the Edge TPU already.
        refused: Why the compiler cannot read the file at all, one entry per cause; usually empty.
        integer_inputs, integer_outputs: All of them are int8 or uint8.
    """

    operators: tuple[OperatorVerdict, ...]
    refused: tuple[str, ...]
    integer_inputs: bool
    integer_outputs: bool


def check(tflite: bytes) -> EdgeTpuReport:
    """Apply the documented rules to a file.

    Raises:
        SourceInvalid: The bytes are not a TensorFlow Lite file.
    """
    file = parse(tflite)
    refused = {
        f"{operator.label}: {reason.text} ({reason.source})"
        for operator in file.operators
        if (reason := beyond_compiler(operator)) is not None
    }
    return EdgeTpuReport(
        operators=_verdicts(file),
        refused=tuple(sorted(refused)),
        integer_inputs=_integer(file, file.inputs),
        integer_outputs=_integer(file, file.outputs),
    )


def _verdicts(file: ModelFile) -> tuple[OperatorVerdict, ...]:
    """Map operators until one refuses; what depends on a result from the CPU stays on the CPU."""
    verdicts: list[OperatorVerdict] = []
    from_cpu: dict[int, OperatorRecord] = {}  # tensor -> the operator that computes it on the CPU
    for operator in file.operators:
        if operator.custom == CUSTOM_OPERATOR:
            verdicts.append(OperatorVerdict(operator.index, operator.custom, operator.version, True))
            continue
        reason = refusal(use_of(file, operator))
        alone = reason is None
        blocking = next((from_cpu[i] for i in operator.inputs if i in from_cpu), None)
        if reason is None and blocking is not None:
            reason = Reason(_BEHIND.format(blocking.label), PARTITION)
        name = operator.custom or operator.code
        note = UNCERTAIN.get(operator.code, "") if reason is None else ""
        verdicts.append(
            OperatorVerdict(operator.index, name, operator.version, reason is None, reason, note, alone)
        )
        if reason is not None and not _feeds_the_start(file, operator):
            from_cpu.update(dict.fromkeys(operator.outputs, operator))
    return tuple(verdicts)


def _feeds_the_start(file: ModelFile, operator: OperatorRecord) -> bool:
    """A float model input quantized on the CPU comes before the mapped part, not after it."""
    return operator.code == "QUANTIZE" and operator.inputs[0] in file.inputs


def _integer(file: ModelFile, indices: tuple[int, ...]) -> bool:
    return all(file.tensors[i].type in ("INT8", "UINT8") for i in indices)


@dataclass(frozen=True)
class CompileResult:
    """What the compiler said.

    Args:
        version: "16.0.384591198", or "" when it did not say.
        log: Its whole output, and its operation log.
        artifact: The compiled file, or None when it failed.
        operators, operators_mapped: Its own count, or None when the log does not say.
        subgraphs: Parts that it made for the Edge TPU, or None when the log does not say.
        on_chip, streamed: Memory for parameters on the chip and off it, in its own words ("3.46MiB").
    """

    version: str
    log: str
    artifact: bytes | None
    operators: int | None
    operators_mapped: int | None
    subgraphs: int | None = None
    on_chip: str = ""
    streamed: str = ""


def compile_with_edgetpu_compiler(
    tflite: bytes, timeout_s: float = _COMPILE_TIMEOUT_S
) -> CompileResult | None:
    """Run `edgetpu_compiler`; None when it is not on PATH, and then `NOT_COMPILED` is what to report.

    Nothing is left behind: it works in a temporary folder. A compiler that fails, hangs or writes
    nothing gives a result without an artifact, its words in `log`.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(tflite)
        output = Path(folder) / "compiled"
        output.mkdir()
        succeeded, log = _run([program, "-s", "-o", str(output), str(source)], timeout_s)
        operation_log = output / "model_edgetpu.log"
        if operation_log.is_file():
            log += "\n" + operation_log.read_text(errors="replace")
        compiled = output / "model_edgetpu.tflite"
        artifact = compiled.read_bytes() if succeeded and compiled.is_file() else None
    total = _number(r"Total number of operations:\s*(\d+)", log)
    mapped = _number(r"Number of operations that will run on Edge TPU:\s*(\d+)", log)
    if mapped is None and artifact is not None:
        mapped = total  # it counts the two kinds only when there are both
    version = re.search(r"Edge TPU Compiler version (\S+)", log)
    return CompileResult(
        version.group(1) if version else "",
        log.strip(),
        artifact,
        total,
        mapped,
        _number(r"Number of Edge TPU subgraphs:\s*(\d+)", log),
        _text(r"On-chip memory used for caching model parameters:\s*(\S+)", log),
        _text(r"Off-chip memory used for streaming uncached model parameters:\s*(\S+)", log),
    )


def _run(command: list[str], timeout_s: float) -> tuple[bool, str]:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        return False, f"{said}\n{PROGRAM} gave no result within {timeout_s:g} s"
    except OSError as error:
        return False, f"{PROGRAM} could not be started: {error.strerror or error}"
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        return False, f"{said}\n{PROGRAM} ended with exit code {done.returncode}"
    return True, said


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else None


def _text(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""
