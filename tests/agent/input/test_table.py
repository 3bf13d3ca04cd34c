"""Rows of tables to tensors."""

from __future__ import annotations

import json
from typing import Any

import input_bundles
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.input.prepare import prepare
from edge_contracts.processing import Table

COLUMNS = [
    {"name": "age", "low": 0, "high": 120, "mean": 40, "std": 20},
    {"name": "sex", "kind": "category", "values": ["f", "m"]},
    {"name": "smoker", "kind": "category", "values": ["false", "true"], "encoding": "index"},
    {"name": "weight", "missing": 70},
]


def made(payload: str, media_type: str = "text/csv", **spec: Any) -> NDArray[Any]:
    rule = Table.model_validate({"kind": "table", "columns": COLUMNS})
    manifest = input_bundles.manifest({"shape": (1, 5), "prepare": rule} | spec)
    return prepare(manifest, "x", payload.encode(), media_type).inputs["x"]


def refused(payload: str, media_type: str = "text/csv", **spec: Any) -> str:
    with pytest.raises(InputRefused) as error:
        made(payload, media_type, **spec)
    assert "\n" not in str(error.value)
    assert error.value.code in ("column", "damaged", "too-large")
    return str(error.value)


def test_rows_of_csv_stand_in_the_contracts_order_whatever_the_files() -> None:
    found = made("weight,name,smoker,sex,age\r\n60,x,true,m,60\r\n,y,false,f,20\r\n")
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0, 1, 1, 60], [-1, 1, 0, 0, 70]]


def test_json_objects_are_the_same_rows() -> None:
    row = {"age": 60, "sex": "m", "smoker": True, "weight": 60.0}
    expected = [[1, 0, 1, 1, 60]]
    assert made(json.dumps(row), "application/json").tolist() == expected
    assert made(json.dumps([row, row]), "application/json").tolist() == expected * 2


def test_a_row_fills_whatever_shape_the_tensor_has() -> None:
    assert made("weight,smoker,sex,age\n1,true,m,40\n", shape=(1, 1, 5)).tolist() == [[[0, 0, 1, 1, 1]]]


def test_an_unlisted_category_has_no_one_hot_place_and_no_index() -> None:
    assert made("weight,smoker,sex,age\n1,true,d,40\n").tolist() == [[0, 0, 0, 1, 1]]
    assert "'smoker' is 'maybe'" in refused("weight,smoker,sex,age\n1,maybe,d,40\n")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1,true,m,", "'age' is empty"),
        ("1,true,m,old", "'age' is 'old', expected a number"),
        ("1,true,m,nan", "'age' is 'nan'"),
        ("1,true,m,1e999", "'age'"),
        ("1,true,m", "'age' is empty"),
    ],
)
def test_a_cell_that_is_no_number_is_named(row: str, told: str) -> None:
    assert told in refused(f"weight,smoker,sex,age\n1,true,m,5\n{row}\n")
    assert "row 1" in refused(f"weight,smoker,sex,age\n1,true,m,5\n{row}\n")


def test_a_missing_column_is_named() -> None:
    assert "'age' is missing" in refused("weight,smoker,sex\n1,true,m\n")
    assert "'sex' is missing" in refused("weight,smoker,age\n1,true,5\n")


@pytest.mark.parametrize("payload", ["", "age\n", '"', "\x00\n", "[1, 2]", "{", "3"])
def test_what_is_no_table_is_refused(payload: str) -> None:
    refused(payload)
    refused(payload, "application/json")


def test_bytes_that_are_no_text_are_refused() -> None:
    rule = Table.model_validate({"kind": "table", "columns": COLUMNS})
    manifest = input_bundles.manifest({"shape": (1, 5), "prepare": rule})
    with pytest.raises(InputRefused) as error:
        prepare(manifest, "x", b"\xff\xfe\x00", "text/csv")
    assert error.value.code == "damaged"


def test_an_integer_tensor_takes_what_it_can_hold() -> None:
    assert made("weight,smoker,sex,age\n1,true,m,60\n", dtype="int8").dtype == np.int8
    refused("weight,smoker,sex,age\n1000,true,m,60\n", dtype="int8")
