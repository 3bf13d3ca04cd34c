"""The rows of a large set: files of a folder, rows of a Parquet or .npz file. A bad one costs itself only."""

from __future__ import annotations

import hashlib
import importlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_agent.batch.npz import open_npz
from edge_agent.errors import InputRefused, SourceMissing
from edge_agent.inference.source import read_payload
from edge_agent.input import table
from edge_agent.input.pipe import media_type_of
from edge_agent.input.prepare import SUFFIXES, Prepared, prepare, spec_of
from edge_contracts import npy
from edge_contracts.arrays import DAMAGE
from edge_contracts.errors import FormatInvalid, MissingExtra, NoMemory
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Table

PICTURES = ("image", "picture")  # what a Parquet column may be called besides the input's own name and "x"


@dataclass(frozen=True)
class Row:
    """One input.

    Args:
        origin: File, or file and row.
        load: Makes it; raises InputRefused or FormatInvalid.
    """

    origin: str
    load: Callable[[], Prepared]


class Rows(Protocol):
    """A set in a fixed order."""

    @property
    def count(self) -> int:
        """How many rows there are."""

    @property
    def fingerprint(self) -> str:
        """Changes when the set does, as far as names, sizes and times of files tell."""

    def take(self, start: int, stop: int) -> Iterator[Row]:
        """Some of the rows."""


def import_pyarrow(module: str = "pyarrow") -> Any:
    """pyarrow or a module of it.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtra("Parquet needs pyarrow; pip install 'edgefleet[batch]'") from None


def open_rows(path: Path, manifest: Manifest) -> Rows:
    """The rows of a folder, a .parquet or an .npz file.

    Raises:
        SourceMissing: It is none of these, or holds no row.
        FormatInvalid: It cannot be read.
        InputRefused: Its columns are not the model's inputs.
    """
    rows: Rows
    if path.is_dir():
        rows = FolderRows(path, manifest)
    elif path.suffix == ".parquet":
        rows = ParquetRows(path, manifest)
    elif path.suffix == ".npz":
        rows = NpzRows(path)
    else:
        raise SourceMissing(f"{path}: expected a folder, a .parquet or an .npz file")
    if rows.count == 0:
        raise SourceMissing(f"{path} holds no input")
    return rows


class FolderRows:
    """The files of a folder and those below it, by name; each is one input."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """List them."""
        kinds = (*SUFFIXES, ".npy")
        names = (p for p in folder.rglob("*") if p.suffix.lower() in kinds and p.is_file())
        self._folder, self._manifest = folder, manifest
        self._files = sorted(str(p.relative_to(folder)) for p in names)
        self.count = len(self._files)
        self.fingerprint = _fingerprint(folder, self._files)

    def take(self, start: int, stop: int) -> Iterator[Row]:
        """Some of the files."""
        for name in self._files[start:stop]:
            yield Row(name, partial(self._load, name))

    def _load(self, name: str) -> Prepared:
        path = self._folder / name
        media_type = SUFFIXES.get(path.suffix.lower())
        if media_type is not None:
            return prepare(self._manifest, "", read_payload(path), media_type)
        spec = spec_of(self._manifest, "")
        try:
            with path.open("rb") as stream:
                return _as_input(npy.read_array(stream, path.stat().st_size), spec)
        except MemoryError:
            raise NoMemory(f"{name}: there is no memory for it") from None
        except (OSError, *DAMAGE) as error:
            raise FormatInvalid(f"{name} is no .npy array: {' '.join(str(error).split())[:200]}") from None


class NpzRows:
    """The rows of an .npz file's arrays."""

    def __init__(self, path: Path) -> None:
        """Map it, or read it whole where it is compressed."""
        self._name, self._arrays = path.name, open_npz(path)
        counts = {values.shape[0] if values.ndim else 0 for values in self._arrays.values()}
        if len(counts) != 1:
            shapes = ", ".join(f"{name!r} {values.shape}" for name, values in self._arrays.items())
            raise FormatInvalid(f"{path.name}: arrays must have the same number of rows; {shapes}")
        self.count = counts.pop()
        self.fingerprint = _fingerprint(path.parent, [path.name])

    def take(self, start: int, stop: int) -> Iterator[Row]:
        """Some of the rows."""
        for row in range(start, min(stop, self.count)):
            yield Row(f"{self._name}:{row}", partial(self._load, row))

    def _load(self, row: int) -> Prepared:
        return Prepared({name: np.asarray(values[row : row + 1]) for name, values in self._arrays.items()})


class ParquetRows:
    """The rows of a Parquet file: the columns of the input's table, or one column for each input.

    A cell is a list of the tensor's numbers, or the bytes of a picture or sound (or a struct with such
    `bytes`, as data sets keep them).
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Read its schema."""
        arrow, parquet = import_pyarrow(), import_pyarrow("pyarrow.parquet")
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, arrow.ArrowException) as error:
            raise FormatInvalid(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from None
        self._path, self._manifest = path, manifest
        self.count = self._file.metadata.num_rows
        self.fingerprint = _fingerprint(path.parent, [path.name])
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._columns = _columns(manifest, self._file.schema_arrow.names, path.name)

    def take(self, start: int, stop: int) -> Iterator[Row]:
        """Some of the rows; the row groups that they lie in are read one at a time."""
        names = sorted(set(self._columns.values()))
        row = start
        while row < min(stop, self.count):
            group = bisect_right(self._starts, row) - 1
            first, last = self._starts[group], min(stop, self._starts[group + 1])
            content = self._file.read_row_group(group, columns=names)
            for cells in content.slice(row - first, last - row).to_pylist():
                yield Row(f"{self._path.name}:{row}", partial(self._load, cells))
                row += 1

    def _load(self, cells: Mapping[str, Any]) -> Prepared:
        only = self._manifest.inputs[0]
        if isinstance(only.prepare, Table) and only.name not in self._columns:
            return Prepared({only.name: table.from_rows([cells], only.prepare, only)})
        made = [
            _from_cell(self._manifest, spec, cells[self._columns[spec.name]])
            for spec in self._manifest.inputs
        ]
        return Prepared({name: v for one in made for name, v in one.inputs.items()}, made[0].view)


def _columns(manifest: Manifest, found: list[str], where: str) -> dict[str, str]:
    """The file's column for each input, or for each column of the only input's table.

    Raises:
        InputRefused: "names".
    """
    only = manifest.inputs[0] if len(manifest.inputs) == 1 else None
    others = () if only is None else ("x", *PICTURES)
    named = {s.name: next((n for n in (s.name, *others) if n in found), "") for s in manifest.inputs}
    if all(named.values()):
        return named
    if only is not None and isinstance(only.prepare, Table):
        wanted = {column.name: column.name for column in only.prepare.columns}
        if wanted.keys() & set(found):
            return {name: name for name in wanted if name in found}
    missing = ", ".join(repr(name) for name, column in named.items() if not column)
    raise InputRefused("names", f"{where} has no column for {missing}; it has {', '.join(map(repr, found))}")


def _from_cell(manifest: Manifest, spec: TensorSpec, cell: Any) -> Prepared:
    if isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes):
        cell = cell["bytes"]
    if isinstance(cell, bytes):
        return prepare(manifest, spec.name, cell, media_type_of(cell))
    if cell is None:
        raise InputRefused("damaged", f"input {spec.name!r} is missing")
    try:
        return _as_input(np.array(cell, spec.dtype), spec)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputRefused("dtype", f"input {spec.name!r} is no list of numbers: {error}") from None


def _as_input(array: Any, spec: TensorSpec) -> Prepared:
    """One sample of any shape that has the tensor's size."""
    if array.size == int(np.prod(spec.shape)):
        array = array.reshape(spec.shape)
    return Prepared({spec.name: array})


def _fingerprint(folder: Path, names: list[str]) -> str:
    seen = hashlib.sha256()
    for name in names:
        status = (folder / name).stat()
        seen.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return seen.hexdigest()
