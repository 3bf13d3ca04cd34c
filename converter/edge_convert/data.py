"""Calibration and evaluation data: read, checked against the model's inputs, and split.

The convention is that of `edge_contracts.arrays`: `x` for a model's only input (or one array for
each input by its tensor name), in the source model's own input space, and `y` for labels; `slice` or
`slice_NAME` say to which group each sample belongs, `boxes` and `box_classes` what a detector should
find (what they mean is `truth.py`'s matter). What is certainly wrong is refused here with the found
and the expected; what is only odd becomes a note.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_contracts.arrays import read_npz
from edge_contracts.digest import digest_of_file
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph

MIN_CALIBRATION = 8
FEW_CALIBRATION = 64  # the study's ranges were still moving below this
# Raw pictures (0..255) beside normalised ones (0..1) differ by 255, digits of 0..16 by 16. An outlier
# can stretch one of two honest files as much, but not its standard deviation too.
MAX_SPREAD_RATIO = 8.0
MAX_MAGNITUDE = 1e9  # no model was trained on larger numbers; float32 convolutions of them overflow
LABELS = "y"
BOXES, BOX_CLASSES = "boxes", "box_classes"
SLICE, SLICE_PREFIX = "slice", "slice_"
MOST_GROUPS = 200  # more groups than this are no slices but an identity
ONLY_INPUT = "x"


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a model's inputs.

    Args:
        feeds: By the model's input name, [n, ...] in the source's layout, float32 where it is float.
        labels: As the file has them, n on the first axis, or None.
        slices: By name of the column, [n] the name of each sample's group.
        targets: `boxes` and `box_classes` as the file has them.
        notes: What was odd, one sentence each, for the report.
    """

    path: str
    digest: str
    feeds: Mapping[str, Array]
    labels: Array | None
    notes: tuple[str, ...] = ()
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    targets: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.feeds.values())))

    def part(self, indices: NDArray[np.intp]) -> dict[str, Array]:
        """Feeds of some samples."""
        return {name: array[indices] for name, array in self.feeds.items()}


@dataclass(frozen=True)
class InputPort:
    """What the data must look like: one input of the source model.

    Args:
        shape: Batch axis first, of size 1.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Split:
    """Which calibration samples do what. No sample both chooses and is judged by.

    Args:
        ranges: Give the statistics that quantization works from.
        selection: Choose among candidates.
        score: Give the figures of the report when there is no evaluation file; empty when there is.
    """

    ranges: NDArray[np.intp]
    selection: NDArray[np.intp]
    score: NDArray[np.intp]


def ports_of(graph: Graph) -> tuple[InputPort, ...]:
    """What data for this graph must look like.

    Raises:
        DataInvalid: An input's first axis is not a batch of one, so that samples cannot be stacked.
    """
    for port in (*graph.inputs, *graph.outputs):
        if port.shape[:1] != (1,):
            raise DataInvalid(
                f"{port.name!r} has shape {port.shape}; expected a first axis of size 1, the samples' axis"
            )
    return tuple(InputPort(p.name, p.shape, graph.tensor(p.tensor).dtype) for p in graph.inputs)


def read_samples(path: Path, ports: Sequence[InputPort], minimum: int = 1) -> Samples:
    """Read a data file for a model.

    Args:
        minimum: Fewest samples that will do.

    Raises:
        DataInvalid: An array is missing, or has the wrong shape, dtype, length or values.
        FormatInvalid: It is not an .npz of plain arrays.
    """
    arrays = read_npz(path)
    name = path.name
    wanted = _inputs_of(arrays, ports, name)
    notes: list[str] = []
    feeds = {p.name: _checked(arrays[wanted[p.name]], wanted[p.name], p, name, notes) for p in ports}
    count = _count({wanted[key]: len(array) for key, array in feeds.items()}, minimum, name)
    others = {key: array for key, array in arrays.items() if key not in wanted.values()}
    labels = others.pop(LABELS, None)
    if labels is not None:
        _check_labels(labels, count, name)
    columns = [key for key in sorted(others) if _is_slice(key)]
    slices = {key.removeprefix(SLICE_PREFIX): _groups(others[key], key, count, name) for key in columns}
    targets = {key: others[key] for key in (BOXES, BOX_CLASSES) if key in others}
    unused = sorted(set(others) - set(targets) - set(columns))
    if unused:
        notes.append(f"{name}: not used: {', '.join(unused)}")
    return Samples(name, digest_of_file(path), feeds, labels, tuple(notes), slices, targets)


def _inputs_of(arrays: Collection[str], ports: Sequence[InputPort], name: str) -> dict[str, str]:
    """By input, the name of its array in the file."""
    wanted = {port.name: port.name for port in ports}
    if len(ports) == 1 and ONLY_INPUT in arrays:
        wanted = {ports[0].name: ONLY_INPUT}
    if any(key not in arrays for key in wanted.values()):
        expected = ", ".join(repr(k) for k in wanted.values()) if len(ports) > 1 else repr(ONLY_INPUT)
        raise DataInvalid(f"{name} holds {', '.join(map(repr, sorted(arrays)))}; expected {expected}")
    return wanted


def _count(counts: Mapping[str, int], minimum: int, name: str) -> int:
    """Number of samples, the same of every input."""
    if len(set(counts.values())) > 1:
        raise DataInvalid(f"{name}: the inputs hold different numbers of samples: {counts}")
    count = next(iter(counts.values()))
    if count < minimum:
        raise DataInvalid(
            f"{name} holds {count} samples; expected {minimum} or more ({FEW_CALIBRATION} are better)"
        )
    return count


def _check_labels(labels: Array, count: int, name: str) -> None:
    if labels.ndim == 0 or len(labels) != count:
        found = "a single number" if labels.ndim == 0 else f"{len(labels)} labels"
        raise DataInvalid(f"{name}: y holds {found} for {count} samples")


def _is_slice(key: str) -> bool:
    return key == SLICE or (key.startswith(SLICE_PREFIX) and key != SLICE_PREFIX)


def _groups(array: Array, key: str, count: int, name: str) -> NDArray[np.str_]:
    """The name of each sample's group, from a column of strings, whole numbers or booleans."""
    if array.shape != (count,):
        raise DataInvalid(f"{name}: {key!r} has shape {array.shape}; expected ({count},), one group a sample")
    if array.dtype.kind not in "USiub":
        raise DataInvalid(
            f"{name}: {key!r} has dtype {array.dtype}; expected strings or whole numbers that name groups"
        )
    if array.dtype.kind == "S":
        try:
            array = np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise DataInvalid(f"{name}: {key!r} holds bytes that are not UTF-8; expected names") from None
    groups = array.astype(np.str_)
    if (found := len(np.unique(groups))) > MOST_GROUPS:
        raise DataInvalid(
            f"{name}: {key!r} names {found} groups for {count} samples; expected {MOST_GROUPS} at most"
        )
    return groups


def _checked(array: Array, key: str, port: InputPort, name: str, notes: list[str]) -> Array:
    where = f"{name}: {key!r}"
    _check_shape(array, where, port)
    if array.dtype.kind not in "fiub":
        raise DataInvalid(f"{where} has dtype {array.dtype}; expected {port.dtype}")
    if port.dtype == "float32":
        array = _as_float(array, where, notes)
    else:
        array = _as_integer(array, where, port.dtype)
    if array.min() == array.max():
        raise DataInvalid(f"{where} is {array.min():g} everywhere; nothing can be measured on it")
    if len(array) > 1 and (array == array[:1]).all():
        raise DataInvalid(f"{where} holds the same sample {len(array)} times; nothing can be measured on it")
    return array


def _check_shape(array: Array, where: str, port: InputPort) -> None:
    sample = port.shape[1:]
    if array.shape[1:] == sample and array.ndim == len(port.shape):
        if len(array) == 0:
            raise DataInvalid(f"{where} holds no samples")
        return
    expected = f"(n, {', '.join(map(str, sample))})" if sample else "(n,)"
    hint = ""
    if array.shape == sample:
        hint = "; the samples' axis is missing: x[None] makes one sample of it"
    elif array.ndim == len(port.shape) == 4:
        _, a, b, c = array.shape
        if (b, c, a) == sample:
            hint = "; it seems to be NCHW where the model wants NHWC: numpy.transpose(x, (0, 2, 3, 1))"
        elif (c, a, b) == sample:
            hint = "; it seems to be NHWC where the model wants NCHW: numpy.transpose(x, (0, 3, 1, 2))"
    raise DataInvalid(
        f"{where} has shape {array.shape}; the model's input {port.name!r} wants {expected}{hint}"
    )


def _as_float(array: Array, where: str, notes: list[str]) -> Array:
    if array.dtype.kind != "f":
        hint = "x.astype('float32'), scaled as the model was trained"
        if array.dtype == np.uint8:
            hint += " (pictures: often x / 255; raw 0..255 only if the model scales them itself)"
        raise DataInvalid(
            f"{where} has dtype {array.dtype}; expected float32 in the model's own space: {hint}"
        )
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
        raise DataInvalid(
            f"{where} has NaN or infinite values in {len(bad)} samples, the first is sample {bad[0]}"
        )
    if (largest := float(np.abs(array).max())) > MAX_MAGNITUDE:
        raise DataInvalid(
            f"{where} has values up to {largest:g}; expected the range that the model was trained with"
        )
    if array.dtype == np.float32:
        return array
    notes.append(f"{where} was {array.dtype} and has been cast to float32")
    return array.astype(np.float32)


def _as_integer(array: Array, where: str, dtype: str) -> Array:
    if array.dtype.kind == "f":
        raise DataInvalid(f"{where} has dtype {array.dtype}; the model's input takes {dtype}")
    if dtype != "bool":
        info = np.iinfo(dtype)
        if array.min() < info.min or array.max() > info.max:
            raise DataInvalid(f"{where} has values {array.min()} to {array.max()}, beyond {dtype}")
    return array.astype(dtype)


def compare_ranges(calibration: Samples, evaluation: Samples) -> None:
    """Refuse two files that cannot be in the same space.

    Raises:
        DataInvalid: An input spans a range many times that of the other file.
    """
    for key, array in calibration.feeds.items():
        if array.dtype.kind != "f":
            continue
        other = evaluation.feeds[key]
        spans = [float(np.ptp(a.astype(np.float64))) for a in (array, other)]
        deviations = [float(a.std(dtype=np.float64)) for a in (array, other)]
        if all(max(pair) > MAX_SPREAD_RATIO * min(pair) for pair in (spans, deviations)):
            raise DataInvalid(
                f"{key!r} is in [{array.min():g}, {array.max():g}] in {calibration.path} and in "
                f"[{other.min():g}, {other.max():g}] in {evaluation.path}; "
                "both must be in the model's own input space"
            )


def split(count: int, has_evaluation: bool, most_ranges: int | None = None) -> Split:
    """Deal calibration samples out, the same way every time.

    With an evaluation file three quarters give ranges and one quarter chooses; without one a fifth
    is kept back for the score and another fifth chooses.

    Args:
        most_ranges: No more than this many give ranges; the rest of their share goes unused.
    """
    if count < MIN_CALIBRATION:
        raise DataInvalid(f"{count} calibration samples, at least {MIN_CALIBRATION} are needed")
    # RandomState's stream is frozen by numpy's compatibility policy (NEP 19); default_rng's is not
    order = np.random.RandomState(0).permutation(count).astype(np.intp)
    score = 0 if has_evaluation else max(2, count // 5)
    selection = max(2, (count // 4) if has_evaluation else (count // 5))
    return Split(
        np.sort(order[score + selection :][:most_ranges]),
        np.sort(order[score : score + selection]),
        np.sort(order[:score]),
    )


def class_labels(labels: Array, classes: int, name: str) -> NDArray[np.intp]:
    """Labels as class numbers.

    Args:
        labels: [n] whole numbers, [n, 1], or [n, classes] with a single one in each row.

    Raises:
        DataInvalid: They are none of these, or a class is out of range.
    """
    if labels.dtype.kind not in "iufb":
        raise DataInvalid(f"{name}: y has dtype {labels.dtype}; expected class numbers")
    if labels.ndim == 2 and labels.shape[1] == classes and classes > 1:
        rows = labels.astype(np.float64)
        if ((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) == 1).all():
            return np.asarray(rows.argmax(axis=1), np.intp)
        raise DataInvalid(f"{name}: y has shape {labels.shape} and is not one-hot; expected class numbers")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataInvalid(f"{name}: y has shape {labels.shape}; expected (n,) class numbers")
    numbers = labels.astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.rint(numbers)).any():
        raise DataInvalid(f"{name}: y holds values that are not whole numbers; expected class numbers")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise DataInvalid(
            f"{name}: y holds classes {numbers.min():g} to {numbers.max():g}, "
            f"the model has {classes} (0 to {classes - 1})"
        )
    return numbers.astype(np.intp)
