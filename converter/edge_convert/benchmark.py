"""Models and bundles timed beside each other on this host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from edge_contracts.arrays import read_npz
from edge_contracts.bundle import SUFFIX, open_bundle
from edge_convert.binding import encode
from edge_convert.engine import Engine, EnginePort, LiteRtEngine, OpenVinoEngine, open_artifact
from edge_convert.errors import SourceInvalid
from edge_convert.graph import Array
from edge_convert.timing import ROUNDS, interleaved_ms


@dataclass(frozen=True, eq=False)
class Contestant:
    """An opened model with one sample for it.

    Args:
        sample: By the file's own tensor names.
    """

    name: str
    bytes: int
    engine: Engine
    sample: dict[str, Array]


@dataclass(frozen=True)
class Timing:
    """How fast one model is.

    Args:
        fast_ms, slow_ms: A tenth of the rounds was faster, a tenth slower.
        ratio: Median of the rounds' ratios to the model that the others are held against.
    """

    name: str
    runtime: str
    bytes: int
    median_ms: float
    fast_ms: float
    slow_ms: float
    ratio: float


def open_contestants(path: Path) -> list[Contestant]:
    """Open a model (one contestant) or a bundle (one for each artifact that this host can run).

    A bundle's artifacts get its first golden input, a model gets random numbers: the time of the
    operators that are in use does not depend on their values.

    Raises:
        ContractError: The bundle is damaged.
        SourceInvalid: It is neither, or nothing of it runs here.
    """
    if path.suffix == SUFFIX:
        return _of_bundle(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceInvalid(f"cannot read {path}: {error.strerror}") from None
    engine: Engine
    if content[4:8] == b"TFL3":
        engine = LiteRtEngine(content)
    elif path.suffix == ".onnx":
        engine = OpenVinoEngine(content)
    else:
        raise SourceInvalid(f"{path.name} is not a .onnx or .tflite model, and not a {SUFFIX}")
    random = np.random.RandomState(0)
    sample = {port.name: _made_up(port, random) for port in engine.inputs}
    return [Contestant(path.name, len(content), engine, sample)]


def _of_bundle(path: Path) -> list[Contestant]:
    opened = open_bundle(path)
    manifest = opened.manifest
    golden = read_npz(opened.contents[manifest.golden.file.path], manifest.golden.file.path)
    contestants = []
    for artifact in manifest.artifacts:
        if artifact.compiled_for:
            continue  # its runtime is the accelerator's own
        files = {file.path: opened.contents[file.path] for file in artifact.files}
        sample = {b.tensor: encode(b, golden[f"input/{b.name}"][:1]) for b in artifact.inputs}
        engine = open_artifact(files, artifact.format)
        contestants.append(Contestant(f"{path.name}: {artifact.id}", artifact.bytes, engine, sample))
    if not contestants:
        raise SourceInvalid(f"{path.name} holds no artifact that runs on this host's CPU")
    return contestants


def _made_up(port: EnginePort, random: np.random.RandomState) -> Array:
    if np.dtype(port.dtype).kind == "f":
        return random.standard_normal(port.shape).astype(port.dtype)
    if port.scale is not None:
        info = np.iinfo(port.dtype)
        return random.randint(info.min, info.max + 1, port.shape).astype(port.dtype)
    return np.zeros(port.shape, port.dtype)


def compare(contestants: Sequence[Contestant], against: int, rounds: int = ROUNDS) -> list[Timing]:
    """Time all of them in interleaved rounds.

    Args:
        against: Index of the one that ratios refer to.
    """
    # names may be equal (one file against itself): the place tells them apart
    rounds_ms = interleaved_ms({str(i): c.engine.repeat(c.sample) for i, c in enumerate(contestants)}, rounds)
    reference = rounds_ms[str(against)]
    result = []
    for index, contestant in enumerate(contestants):
        times = rounds_ms[str(index)]
        tenths = quantiles(times, n=10)
        ratio = median(a / b for a, b in zip(times, reference, strict=True))
        result.append(
            Timing(
                contestant.name,
                contestant.engine.runtime,
                contestant.bytes,
                median(times),
                tenths[0],
                tenths[-1],
                ratio,
            )
        )
    return result
