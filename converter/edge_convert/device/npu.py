"""The Intel NPU's compiler, run offline where one can be found: does it take the model, and how fast is it?

Nothing here needs an NPU. A compiler is a command that is given a model and prints what Intel's compiler
says, its own latency estimate among it. Where to find one:

* `EDGEFLEET_NPU_COMPILER` is a command line. It is run with four arguments more - the model's .xml (its
  .bin beside it), the platform ("3720"), the precision ("int8") and where to write the compiled blob -
  and must end with 0 and have written the blob, or end otherwise with the reason in its last line. Lines
  `compiler NAME VERSION` and `estimate_us NUMBER` are read, and Intel's own "Estimated inference latency".
* `EDGEFLEET_NPU_COMPILER` is a folder that holds Intel's library (openvino_intel_npu_compiler): then
  `npu_native.py` compiles with the installed openvino.
* Not set: the same, when the installed openvino brings the library (on Windows it does).

Estimates follow from model and compiler alone, and so may decide what is in a bundle. They have never
been checked on hardware here.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_convert.errors import CompilerMissing

VARIABLE = "EDGEFLEET_NPU_COMPILER"
LIBRARY = "*openvino_intel_npu_compiler*"
PLATFORMS = ("3720", "4000")  # Meteor Lake and Lunar Lake: for a profile that names none
TIMEOUT_S = 600.0
NOT_COMPILED = (
    "not compiled: no NPU compiler here (OpenVINO's Linux package has none; "
    f"{VARIABLE} names one); the device's driver compiles the model when it is loaded"
)
_ESTIMATE = re.compile(r"^estimate_us ([0-9.eE+]+)$|Estimated inference latency: ([0-9.]+) us", re.MULTILINE)
_NAME = re.compile(r"^compiler (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Compiler:
    """A command that compiles, and what it needs in its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Compiled:
    """What a compiler made of one form of a model for one platform.

    Args:
        estimate_us: Its own estimate of one inference, microseconds; None when it gave none.
        blob_bytes: Size of what it wrote; None when it refused.
        refusal: Its last words when it refused, else "".
    """

    precision: str
    platform: str
    compiler: str
    estimate_us: float | None
    blob_bytes: int | None
    refusal: str = ""

    @property
    def compiled(self) -> bool:
        """Whether it took the model."""
        return self.blob_bytes is not None

    def fields(self) -> dict[str, object]:
        """Plain values for a report."""
        return {
            "precision": self.precision,
            "platform": self.platform,
            "compiler": self.compiler,
            "compiled": self.compiled,
            "estimate_us": self.estimate_us,
            "blob_bytes": self.blob_bytes,
            "refusal": self.refusal,
        }


def find() -> Compiler | None:
    """The compiler that the environment names, or the one that the installed openvino brings.

    Raises:
        CompilerMissing: The variable names a command that cannot be found, or a folder without the library.
    """
    named = os.environ.get(VARIABLE, "")
    if not named:
        folder = _openvino_libraries()
        return _native() if folder is not None and any(_libraries_in(folder)) else None
    if Path(named).is_dir():
        if not any(_libraries_in(Path(named))):
            raise CompilerMissing(f"{VARIABLE}: {named} holds no {LIBRARY.strip('*')} library")
        return _native(Path(named))
    command = shlex.split(named)
    program = shutil.which(command[0]) if command else None
    if program is None:
        raise CompilerMissing(f"{VARIABLE}: {named!r} is neither a folder nor a command that can be found")
    return Compiler((program, *command[1:]), {})


def compile_form(
    compiler: Compiler,
    xml: bytes,
    weights: bytes,
    precision: str,
    platform: str,
    timeout_s: float = TIMEOUT_S,
) -> Compiled:
    """Compile one form of a model for one platform; nothing is left behind, whatever the compiler does."""
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as name:
        folder = Path(name)
        (folder / "model.xml").write_bytes(xml)
        (folder / "model.bin").write_bytes(weights)
        blob = folder / "model.blob"
        command = [*compiler.command, str(folder / "model.xml"), platform, precision, str(blob)]
        succeeded, said = _run(command, compiler.environment, folder / "log", timeout_s)
        size = blob.stat().st_size if blob.is_file() else 0
    names = _NAME.findall(said)
    found = names[-1].strip() if names else Path(compiler.command[0]).name
    if not succeeded or not size:
        reason = _last_line(said) if not succeeded else "it ended well and wrote no blob"
        return Compiled(precision, platform, found, None, None, reason)
    estimates = [first or second for first, second in _ESTIMATE.findall(said)]
    return Compiled(precision, platform, found, float(estimates[-1]) if estimates else None, size)


def better(forms: Mapping[str, Sequence[Compiled]]) -> str | None:
    """The form with the lowest estimate, over all platforms by the geometric mean; the first of equals.

    Args:
        forms: By name, what became of it for each platform, in order of preference.

    Returns:
        None when no form was compiled with an estimate for every platform.
    """
    means = {
        name: math.fsum(math.log(one.estimate_us) for one in results if one.estimate_us) / len(results)
        for name, results in forms.items()
        if results and all(one.compiled and one.estimate_us for one in results)
    }
    return min(means, key=lambda name: means[name]) if means else None


def sentence(results: Sequence[Compiled]) -> str:
    """What to say of an artifact whose form was put through a compiler."""
    parts = []
    for one in results:
        if not one.compiled:
            parts.append(f"NPU {one.platform} refuses it: {one.refusal}")
        elif one.estimate_us is None:
            parts.append(f"NPU {one.platform} takes it")
        else:
            parts.append(f"NPU {one.platform} takes it, about {one.estimate_us:g} us by its own estimate")
    compilers = ", ".join(dict.fromkeys(one.compiler for one in results))
    return (
        "not compiled into the bundle: the device's driver compiles the model when it is loaded; "
        f"checked with {compilers}: {'; '.join(parts)}"
    )


def _native(folder: Path | None = None) -> Compiler:
    command = (sys.executable, "-m", "edge_convert.device.npu_native")
    if folder is None:
        return Compiler(command, {})
    variable = "PATH" if os.name == "nt" else "LD_LIBRARY_PATH"
    joined = os.pathsep.join(filter(None, (str(folder.absolute()), os.environ.get(variable, ""))))
    return Compiler(command, {variable: joined})


def _openvino_libraries() -> Path | None:
    spec = importlib.util.find_spec("openvino")
    return Path(spec.origin).parent / "libs" if spec is not None and spec.origin else None


def _libraries_in(folder: Path) -> list[Path]:
    """Intel's compiler in a folder; the loader of the same name is not it."""
    return [path for path in folder.glob(LIBRARY) if "loader" not in path.name]


def _run(
    command: Sequence[str], environment: Mapping[str, str], log: Path, timeout_s: float
) -> tuple[bool, str]:
    """Output goes to a file: what a compiler leaves running (wine's server) would keep a pipe open."""
    try:
        with log.open("wb") as stream:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                timeout=timeout_s,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return False, f"{log.read_text(errors='replace')}\nno result within {timeout_s:g} s"
    except OSError as error:
        return False, f"could not be started: {error.strerror or error}"
    said = log.read_text(errors="replace")
    if done.returncode < 0:
        said += f"\nended by signal {-done.returncode}"
    return done.returncode == 0, said


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
