"""A TensorFlow Lite file on an aarch64 CPU in emulation: its answers, and what they cost in instructions.

`edge-convert arm-userland` makes the userland (`arm_userland.sh`: qemu-user, an arm64 Python, LiteRT);
`arm_guest.py` is what runs inside it. The count is of executed guest instructions: no cycles and no
milliseconds, but the same on every host, and so fit to rank variants of a model and to notice a
regression. Whether the answers are good enough is asked in `arm_check.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

from edge_contracts.arrays import read_npz, write_npz
from edge_convert.errors import EmulationFailed, EmulationMissing
from edge_convert.graph import Array

VARIABLE = "EDGEFLEET_ARM"  # names the folder of a userland
CPUS = ("cortex-a76", "cortex-a72")  # Raspberry Pi 5, with int8 dot products, and Pi 4, without
COUNTED_RUNS = 3  # equal to the instruction in one process; the median drops a straggler
TIMEOUT_S = 600.0
_HERE = Path(__file__).parent
_SCRIPT, _GUEST = _HERE / "arm_userland.sh", _HERE / "arm_guest.py"
# What the agent needs on ARM too; those that are installed here come in the same version there.
REQUIREMENTS = (
    "ai-edge-litert",
    "cbor2",
    "click",
    "cryptography",
    "msgspec",
    "numpy",
    "paho-mqtt",
    "psutil",
    "pynacl",
)


@dataclass(frozen=True)
class Userland:
    """A folder that `edge-convert arm-userland` has made."""

    folder: Path

    @property
    def python(self) -> Path:
        """The aarch64 Python: a command for this host."""
        return self.folder / "bin" / "python-arm"

    @property
    def counts(self) -> bool:
        """Whether it can count instructions; that took a C compiler when it was made."""
        return (self.folder / "bin" / "counter.so").is_file()


@dataclass(frozen=True, eq=False)
class ArmRun:
    """What a file did on one CPU.

    Args:
        answers: By output tensor of the file, in its own codes, samples on the leading axis.
        instructions: Of one inference, one thread; None when the userland cannot count.
    """

    cpu: str
    answers: Mapping[str, Array]
    instructions: int | None


def default_folder() -> Path:
    """Where a userland is looked for when nothing else is said: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "edgefleet" / "arm"


def find(folder: Path | None = None) -> Userland:
    """The userland in a folder, else in $EDGEFLEET_ARM, else in the user's cache.

    Raises:
        EmulationMissing: There is none.
    """
    named = os.environ.get(VARIABLE)
    userland = Userland((folder or (Path(named) if named else default_folder())).absolute())
    if not userland.python.is_file():
        raise EmulationMissing(
            f"no aarch64 userland in {userland.folder}: `edge-convert arm-userland` makes one, "
            f"{VARIABLE} names another folder"
        )
    return userland


def make(folder: Path) -> str:
    """Make a userland in a folder, with this host's versions of LiteRT and numpy; about 20 s and 80 MB.

    Returns:
        What the script said.

    Raises:
        EmulationMissing: This host cannot: no Debian, no network, not x86-64.
    """
    wanted = [*map(_pinned, REQUIREMENTS)]
    command = ["bash", str(_SCRIPT), str(folder), *wanted]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHON": sys.executable},
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmulationMissing(f"no aarch64 userland could be made: {error}") from None
    if done.returncode:
        raise EmulationMissing(f"no aarch64 userland could be made: {_last_line(done.stdout)}")
    return done.stdout.strip()


def _pinned(package: str) -> str:
    try:
        return f"{package}=={metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return package


def run(
    tflite: bytes,
    feeds: Mapping[str, Array],
    cpu: str = CPUS[0],
    userland: Userland | None = None,
) -> ArmRun:
    """Run samples on an emulated CPU, one thread, one at a time, and count the first one's instructions.

    Args:
        feeds: By input tensor of the file, in its own dtype; samples on the leading axis.
        cpu: qemu's name of it.

    Raises:
        EmulationMissing: No userland.
        EmulationFailed: The file does not run there.
    """
    userland = userland or find()
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as name:
        folder = Path(name)
        _write_job(folder, tflite, feeds, userland)
        said = _emulate(userland, cpu, [folder])
        names = json.loads((folder / "outputs.json").read_text())
        answers = read_npz(folder / "answers.npz", "the emulation's answers")
    named = {name: answers[str(i)] for i, name in enumerate(names)}
    return ArmRun(cpu, named, instructions_of(marks_in(said)))


def _write_job(folder: Path, tflite: bytes, feeds: Mapping[str, Array], userland: Userland) -> None:
    """What `arm_guest.py` reads."""
    (folder / "model.tflite").write_bytes(tflite)
    (folder / "feeds.npz").write_bytes(write_npz({str(i): v for i, v in enumerate(feeds.values())}))
    job = {
        "inputs": list(feeds),
        "samples": len(next(iter(feeds.values()))),
        "counted": COUNTED_RUNS if userland.counts else 0,
    }
    (folder / "job.json").write_text(json.dumps(job))


def instructions(
    tflite: bytes, feeds: Mapping[str, Array], cpu: str = CPUS[0], userland: Userland | None = None
) -> int:
    """Executed instructions of one inference on an emulated CPU, one thread, LiteRT with XNNPACK.

    Args:
        feeds: By input tensor of the file, in its own dtype; the first sample is run.

    Raises:
        EmulationMissing: No userland, or one that cannot count.
        EmulationFailed: The file does not run there.
    """
    return instructions_of_each([(tflite, feeds)], cpu, userland)[0]


def instructions_of_each(
    jobs: Sequence[tuple[bytes, Mapping[str, Array]]],
    cpu: str = CPUS[0],
    userland: Userland | None = None,
) -> list[int]:
    """The same of several files, one after the other in one emulated process: most of a count is its start.

    Raises:
        EmulationMissing: No userland, or one that cannot count.
        EmulationFailed: One of the files does not run there.
    """
    userland = userland or find()
    if not userland.counts:
        raise EmulationMissing(
            f"{userland.folder} cannot count instructions; make it again with a C compiler"
        )
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as name:
        folders = [Path(name) / str(index) for index in range(len(jobs))]
        for folder, (tflite, feeds) in zip(folders, jobs, strict=True):
            folder.mkdir()
            _write_job(folder, tflite, {name: values[:1] for name, values in feeds.items()}, userland)
        marks = marks_in(_emulate(userland, cpu, folders))
    each = len(marks) // max(1, len(jobs))
    counts = [instructions_of(marks[i * each : (i + 1) * each]) for i in range(len(jobs))]
    found = [count for count in counts if count is not None]
    if len(found) < len(jobs):
        raise EmulationFailed(f"the counter of {userland.folder} said nothing")
    return found


def marks_in(text: str) -> list[int]:
    """The counter's readings, in order."""
    return [int(found) for found in re.findall(r"^instructions (\d+)$", text, re.MULTILINE)]


def instructions_of(marks: Sequence[int]) -> int | None:
    """Instructions of one inference, from three readings a run: two in a row, then one after it.

    The first two of a run tell what reading costs. The first run is a warm-up and not counted.
    """
    runs = [marks[i : i + 3] for i in range(0, len(marks), 3)][1:]
    if not runs:
        return None
    return round(median((after - second) - (second - first) for first, second, after in runs))


def _emulate(userland: Userland, cpu: str, folders: Sequence[Path]) -> str:
    # -P: the guest's neighbours here must not hide the standard library's modules there
    command = [str(userland.python), "-P", str(_GUEST), *map(str, folders)]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ARM_PYTHONPATH")}
    # Python is counted too where it calls the runtime, and the seed decides how its dictionaries are laid out
    environment |= {"ARM_CPU": cpu, "PYTHONHASHSEED": "0"} | ({"ARM_COUNT": "1"} if userland.counts else {})
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EmulationFailed(f"no answer from the emulated {cpu} within {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise EmulationFailed(f"{userland.python}: {error.strerror or error}") from None
    if done.returncode:
        raise EmulationFailed(f"the model does not run on an emulated {cpu}: {_last_line(done.stdout)}")
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
