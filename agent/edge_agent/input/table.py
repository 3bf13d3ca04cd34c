"""From rows of a table to a tensor, as `edge_contracts.processing.Table` says.

What has no number at all is refused here; what is merely outside the schema becomes numbers that
`checks.py` sees in the tensor, where arrays from elsewhere are held to the same schema.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import CategoryColumn, NumberColumn, Table, width_of

MAX_ROWS = 1_000_000
Row = Mapping[str, Any]


def from_csv(payload: bytes, rule: Table, spec: TensorSpec) -> NDArray[Any]:
    """Every row of a CSV file (RFC 4180, UTF-8, the first row names the columns), shape (n, ...).

    Raises:
        InputRefused: "damaged", "too-large" or "column".
    """
    try:
        rows = list(csv.DictReader(io.StringIO(payload.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputRefused("damaged", f"not a CSV file: {error}") from None
    return from_rows(rows, rule, spec)


def from_json(payload: bytes, rule: Table, spec: TensorSpec) -> NDArray[Any]:
    """One JSON object by column name, or a list of them, shape (n, ...).

    Raises:
        InputRefused: "damaged", "too-large" or "column".
    """
    try:
        parsed = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InputRefused("damaged", f"not JSON: {error}") from None
    rows = [parsed] if isinstance(parsed, dict) else parsed
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputRefused("damaged", "expected a JSON object of columns, or a list of them")
    return from_rows(rows, rule, spec)


def from_rows(rows: Sequence[Row], rule: Table, spec: TensorSpec) -> NDArray[Any]:
    """Rows by column name to the tensor, shape (n, ...).

    Raises:
        InputRefused: "damaged", "too-large" or "column".
    """
    if not 1 <= len(rows) <= MAX_ROWS:
        code = "damaged" if not rows else "too-large"
        raise InputRefused(code, f"a table of {len(rows)} rows, expected 1 to {MAX_ROWS}")
    values = np.zeros((len(rows), rule.width))
    at = 0
    for column in rule.columns:
        width = width_of(column)
        if isinstance(column, NumberColumn):
            _numbers(rows, column, values[:, at : at + width])
        else:
            _categories(rows, column, values[:, at : at + width])
        at += width
    if np.dtype(spec.dtype).kind in "iu":
        values = np.rint(values)
        limits = np.iinfo(spec.dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise InputRefused("column", f"a value is beyond {spec.dtype}")
    return values.astype(spec.dtype).reshape(len(rows), *spec.shape[1:])


def _numbers(rows: Sequence[Row], column: NumberColumn, target: NDArray[np.float64]) -> None:
    target[:, 0] = [_number(row, place, column) for place, row in enumerate(rows)]
    target -= column.mean
    target /= column.std


def _number(row: Row, place: int, column: NumberColumn) -> float:
    cell = row.get(column.name)
    if cell is None or cell == "":
        if column.missing is None:
            raise _wrong(place, column.name, "is missing" if column.name not in row else "is empty")
        return column.missing
    try:
        number = float(cell) if isinstance(cell, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(place, column.name, f"is {cell!r:.40}, expected a number")
    return number


def _categories(rows: Sequence[Row], column: CategoryColumn, target: NDArray[np.float64]) -> None:
    codes = {value: code for code, value in enumerate(column.values)}
    for place, row in enumerate(rows):
        cell = row.get(column.name)
        if cell is None:
            raise _wrong(place, column.name, "is missing")
        code = codes.get(_text(cell))
        if column.encoding == "one-hot":
            if code is not None:  # an unknown category is no column's: the row of zeros tells
                target[place, code] = 1
        elif code is None:
            raise _wrong(place, column.name, f"is {cell!r:.40}, which is not listed")
        else:
            target[place, 0] = code


def _text(cell: object) -> str:
    """A cell as the contract spells it: JSON's true and 3 are the CSV's "true" and "3"."""
    return cell if isinstance(cell, str) else json.dumps(cell)


def _wrong(place: int, column: str, what: str) -> InputRefused:
    return InputRefused("column", f"row {place}: column {column!r} {what}")
