"""Kept inputs as a data set: .npz for `edge-convert`, Parquet for training scripts, both with lineage. Pure.

`x` (or one array for each input by its tensor name) and `y` are what edge-convert reads as calibration and
evaluation; `id` is what the server calls a sample, where it is labelled; `device`, `bundle`, `artifact`,
`envelope` (SHA-256 of what the device signed), `number` and `time_ms` say of each sample where it comes from.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_contracts.arrays import Arrays, write_npz
from edge_fleet.errors import FleetError, RequestInvalid

ONLY_INPUT, LABELS = "x", "y"
LINEAGE = (
    *("id", "device", "bundle", "artifact", "envelope", "number", "time_ms", "reason", "answer"),
    "labelled_by",
)


class ParquetMissing(FleetError):
    """Parquet needs a library that is not installed."""

    code = "parquet-missing"
    status = 501


@dataclass(frozen=True)
class Sample:
    """One kept input.

    Args:
        inputs: Each of shape (1, ...).
        lineage: Values of LINEAGE, in its order.
    """

    inputs: Arrays
    label: int | None
    lineage: tuple[str | int, ...]

    @property
    def id(self) -> int:
        """What the server calls it."""
        return int(self.lineage[LINEAGE.index("id")])


def arrays(samples: Sequence[Sample]) -> Arrays:
    """All of them as one set of arrays; `y` when every one has a label.

    Raises:
        RequestInvalid: There are none, they are not of one shape, or an input is called as something else.
    """
    if not samples:
        raise RequestInvalid("no kept inputs match; edge-fleet dataset list shows all")
    first = _form(samples[0])
    for sample in samples:
        if _form(sample) != first:
            raise RequestInvalid(
                f"kept inputs of several forms: {_told(first)} and {_told(_form(sample))}; "
                "name one release or bundle (--of)"
            )
    names = sorted(samples[0].inputs)
    taken = set(names) & {LABELS, *LINEAGE} if len(names) > 1 else set()
    if taken:
        raise RequestInvalid(
            f"an input of this model is called {sorted(taken)[0]!r}, as a column of the export is; "
            "name the model's inputs otherwise"
        )
    made: Arrays = {
        (ONLY_INPUT if len(names) == 1 else name): np.concatenate([sample.inputs[name] for sample in samples])
        for name in names
    }
    labels = [sample.label for sample in samples]
    if None not in labels:
        made[LABELS] = np.array(labels, np.int64)
    for place, name in enumerate(LINEAGE):
        column = [sample.lineage[place] for sample in samples]
        made[name] = np.array(column, np.int64 if isinstance(column[0], int) else np.str_)
    return made


def as_npz(samples: Sequence[Sample]) -> bytes:
    """An .npz file: the same samples give the same bytes."""
    return write_npz(arrays(samples))


def as_parquet(samples: Sequence[Sample]) -> bytes:
    """A Parquet file: a row for each sample, its inputs as flat lists with their shapes in the metadata.

    Raises:
        ParquetMissing: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise ParquetMissing(
            "Parquet needs pyarrow; install it at the server with: pip install 'edgefleet[batch]'"
        ) from None
    found = arrays(samples)
    columns, shapes = {}, {}
    for name, array in found.items():
        if array.ndim > 1:
            shapes[f"shape:{name}"] = ",".join(map(str, array.shape[1:]))
            columns[name] = pa.array(list(array.reshape(len(array), -1)))
        else:
            columns[name] = pa.array(array.tolist())
    table = pa.table(columns).replace_schema_metadata(shapes)
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def _form(sample: Sample) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    return tuple((name, str(a.dtype), a.shape[1:]) for name, a in sorted(sample.inputs.items()))


def _told(form: tuple[tuple[str, str, tuple[int, ...]], ...]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, dtype, shape in form)
