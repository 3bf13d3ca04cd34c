"""Golden inputs: real samples with known answers, run again before a model is switched on.

They are chosen for coverage, and the choice is the same every time: every class that the source
predicts, samples far from one another (Gonzalez, "Clustering to minimize the maximum intercluster
distance", 1985), easy ones and close calls. Easy ones alone are blind: a softmax at 1.0 stays there
whatever is wrong with the input (docs/decisions/0040-golden-inputs.md).

Close calls flip on a healthy device, too: another CPU's rounding moves an int8 softmax by tens of codes
(66 measured between LiteRT's own two CPU paths). So every sample has a kind. From one that is "sure" the
same class is demanded, from a "boundary" one only that the scores as a whole stay near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_contracts.arrays import write_npz
from edge_contracts.manifest import GoldenKind, Task
from edge_convert.graph import Array
from edge_convert.measures.score import sqnr_db

COUNT, FEWEST, MOST = 16, 4, 64
MAX_BYTES = 2 << 20  # large pictures: golden inputs must not dwarf the artifact that a device downloads
# One of 16 may flip: rounding on another CPU, not a wrong tensor contract.
MIN_AGREEMENT = 0.9
# 66 codes of 256 on a few samples' softmax is 12 dB; a transposed input gives 0 dB and less.
MIN_SQNR_DB = 10.0
BOUNDARY_SHARE = 0.25  # of the samples, at most
# An artifact's noise against its source is what to expect of another CPU's against it: between LiteRT's
# CPU paths it was 2 to 10 dB less on the four MLPerf models. Half as much again is room for the unknown.
SURE_NOISE = 1.5
LEAST_NOISE = 0.02  # of the scores' range: a float artifact may run in half precision on its device
SURE_ROOM_DB = 6.0
# Of the answers on the device to those here: as near as LiteRT's two CPU paths are to one another on this
# host, with a factor of ten in power to spare.
KERNEL_ROOM_DB = 10.0
MOST_SQNR_DB = 30.0  # float answers agree to 100 dB here; a device may still compute in half precision
_SUMMARY = 64  # numbers that stand for a sample's input, and for its output, when distances are taken

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The samples to keep.

    Args:
        indices: Ascending.
        kinds: Of each.
    """

    indices: Indices
    kinds: tuple[GoldenKind, ...]


def how_many(inputs: Mapping[str, Array], source: Mapping[str, Array], task: Task) -> int:
    """How many samples a bundle carries: more where there are many classes, fewer where samples are large.

    Args:
        inputs, source: Samples and the source's answers to them, by name, [n, ...].
    """
    wanted = COUNT
    if task == "classification":
        scores = next(iter(source.values()))
        classes = len(np.unique(scores.reshape(len(scores), -1).argmax(axis=1)))
        wanted = min(MOST, max(COUNT, round(classes / (1 - BOUNDARY_SHARE))))
    sample_bytes = sum(values[:1].nbytes for values in inputs.values())
    return max(FEWEST, min(wanted, MAX_BYTES // max(1, sample_bytes)))


def choose(
    inputs: Mapping[str, Array],
    source: Mapping[str, Array],
    artifacts: Sequence[Mapping[str, Array]],
    task: Task,
    count: int = COUNT,
) -> Chosen:
    """Choose golden inputs.

    Args:
        inputs: Samples by input name, [n, ...].
        source, artifacts: The source's answers to them, and those of every artifact that goes into the
            bundle, by output name.
    """
    samples = len(next(iter(source.values())))
    count = min(count, samples)
    places = np.hstack([_summary(inputs), _summary(source)])
    if task == "classification":
        order, sure = _of_classes(source, artifacts, places, count)
    else:
        order, sure = _of_values(source, artifacts, places, count)
    indices = np.sort(order)
    return Chosen(indices, tuple("sure" if sure[i] else "boundary" for i in indices))


def _of_classes(
    source: Mapping[str, Array], artifacts: Sequence[Mapping[str, Array]], places: Floats, count: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """Every class's surest sample, close calls between different classes, and what lies far from these."""
    scores = _rows(next(iter(source.values())))
    rivals = [_rows(next(iter(answers.values()))) for answers in artifacts]
    winners = scores.argmax(axis=1)
    margins = _margins(scores)
    sure = _sure(scores, rivals)
    surest_first = np.argsort(-margins, kind="stable")
    firsts = _dealt(winners, surest_first)
    unsure = np.flatnonzero(~sure)
    most = min(int(BOUNDARY_SHARE * count), len(unsure))
    pairs = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :2], axis=1)
    meetings = pairs[:, 0] * scores.shape[1] + pairs[:, 1]
    close = _dealt(meetings[unsure], np.argsort(margins[unsure], kind="stable"))
    chosen = [*unsure[close[:most]].tolist()]
    classes = len(np.unique(winners))
    chosen += [i for i in firsts[:classes].tolist() if i not in chosen][: count - len(chosen)]
    return _filled(chosen, places, sure, count), sure


def _of_values(
    source: Mapping[str, Array], artifacts: Sequence[Mapping[str, Array]], places: Floats, count: int
) -> tuple[Indices, NDArray[np.bool_]]:
    """The sample that is most like all others, the hardest ones, and what lies far from these."""
    quality = np.array([_sample_sqnr(source, artifacts, index) for index in range(len(places))])
    sure = quality >= MIN_SQNR_DB + SURE_ROOM_DB
    _keep_a_few(sure, quality)
    hard = np.flatnonzero(~sure)
    hardest = hard[np.argsort(quality[hard], kind="stable")][: int(BOUNDARY_SHARE * count)]
    typical = int(np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1)))
    chosen = list(dict.fromkeys([*([typical] if sure[typical] else []), *hardest.tolist()]))
    return _filled(chosen[:count], places, sure, count), sure


def _sure(scores: Floats, rivals: Sequence[Floats]) -> NDArray[np.bool_]:
    """The samples whose class another CPU's rounding cannot change: their margin is twice the noise."""
    span = float(np.ptp(scores))
    sure = np.full(len(scores), True)
    least = _margins(scores)
    for rival in rivals:
        noise = max(SURE_NOISE * float(np.abs(rival - scores).max(initial=0.0)), LEAST_NOISE * span)
        least = np.minimum(least, _margins(rival))
        # the first class may fall by the noise and the second rise by it
        sure &= (least >= 2 * noise) & (rival.argmax(axis=1) == scores.argmax(axis=1))
    _keep_a_few(sure, least)
    return sure


def _keep_a_few(sure: NDArray[np.bool_], merit: Floats) -> None:
    """Call the best ones sure where hardly any are: a gate that demands nothing would pass anything."""
    missing = min(FEWEST, len(sure)) - int(sure.sum())
    if missing > 0:
        others = np.flatnonzero(~sure)
        sure[others[np.argsort(-merit[others], kind="stable")][:missing]] = True


def _filled(chosen: list[int], places: Floats, sure: NDArray[np.bool_], count: int) -> Indices:
    """Add the sure sample that is furthest from all chosen ones, until there are enough; then any."""
    for pool in (np.flatnonzero(sure), np.arange(len(places))):
        distance = np.full(len(places), np.inf)
        for index in chosen:
            distance = np.minimum(distance, ((places - places[index]) ** 2).sum(axis=1))
        left = [i for i in pool.tolist() if i not in chosen]
        while left and len(chosen) < count:
            furthest = max(left, key=lambda i: (distance[i], -i))
            chosen.append(furthest)
            left.remove(furthest)
            distance = np.minimum(distance, ((places - places[furthest]) ** 2).sum(axis=1))
    return np.array(chosen[:count], np.intp)


def _dealt(groups: Indices, order: Indices) -> Indices:
    """Members of all groups in an order: every group's first, then every group's second, and so on."""
    place = np.zeros(len(groups), np.intp)
    rank = np.zeros(len(groups), np.intp)
    rank[order] = np.arange(len(order))
    for group in np.unique(groups):
        members = order[groups[order] == group]
        place[members] = np.arange(len(members))
    return np.lexsort((rank, place))


def _summary(arrays: Mapping[str, Array]) -> Floats:
    """Each sample as a few numbers of equal weight: means of neighbours, standardised over the samples."""
    joined = np.hstack([_group_means(values.reshape(len(values), -1)) for values in arrays.values()])
    spread = joined.std(axis=0)
    varying = spread > 0
    standard = (joined[:, varying] - joined[:, varying].mean(axis=0)) / spread[varying]
    return np.asarray(standard / max(1, standard.shape[1]) ** 0.5)


def _group_means(rows: Array) -> Floats:
    """Means of neighbours, row by row: a batch of large pictures in float64 would fill a small machine."""
    width = rows.shape[1]
    starts = np.linspace(0, width, min(_SUMMARY, width), endpoint=False).astype(np.intp)
    sums = np.array([np.add.reduceat(row, starts, dtype=np.float64) for row in rows])
    return np.asarray(sums / np.diff(np.append(starts, width)))


def _margins(scores: Floats) -> Floats:
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def _rows(values: Array) -> Floats:
    return np.asarray(values.reshape(len(values), -1), np.float64)


def _sample_sqnr(source: Mapping[str, Array], artifacts: Sequence[Mapping[str, Array]], index: int) -> float:
    """Of one sample, worst output of the worst artifact."""
    ratios = [
        ratio
        for answers in artifacts
        for name, values in source.items()
        if values.dtype.kind == "f" and (ratio := sqnr_db(values[index], answers[name][index])) is not None
    ]
    return min(ratios, default=np.inf)


def limit_db(between_kernels: Sequence[float | None]) -> float:
    """The smallest ratio that a healthy device reaches, whole decibels.

    Args:
        between_kernels: How near two sets of kernels on this host are to one another on the golden
            inputs, for every artifact, None where they are equal; empty where only one could be run.
    """
    if not between_kernels:
        return MIN_SQNR_DB
    lowest = min((ratio for ratio in between_kernels if ratio is not None), default=np.inf)
    return float(np.floor(np.clip(lowest - KERNEL_ROOM_DB, MIN_SQNR_DB, MOST_SQNR_DB)))


def archive(inputs: Mapping[str, Array], expected: Mapping[str, Mapping[str, Array]]) -> bytes:
    """The bytes of golden.npz.

    Args:
        inputs: By the contract's input name.
        expected: By artifact id, then by output name.
    """
    arrays = {f"input/{name}": array for name, array in inputs.items()}
    for artifact_id, outputs in expected.items():
        arrays |= {f"expected/{artifact_id}/{name}": array for name, array in outputs.items()}
    return write_npz(arrays)
