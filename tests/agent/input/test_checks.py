"""Constant samples, schemas and ranges: flagged or refused as the contract says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.errors import InputRefused
from edge_agent.inference.contract import ContractCheck
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Checks, Table

TABLE = {
    "kind": "table",
    "columns": [
        {"name": "age", "low": 0, "high": 120, "mean": 40.1, "std": 18.9},
        {"name": "sex", "kind": "category", "values": ["f", "m"]},
        {"name": "ward", "kind": "category", "values": ["a", "b", "c"], "encoding": "index"},
    ],
}


def flags(values: Any, table: dict[str, Any] | None = None, **checks: Any) -> dict[str, int]:
    array = np.asarray(values, np.float32)
    rule = None if table is None else Table.model_validate(table)
    spec = TensorSpec(
        name="x",
        shape=(1, *array.shape[1:]),
        value_range=(0, 1) if table is None else None,
        prepare=rule,
        checks=Checks(**checks) if checks else None,
    )
    _, flagged = ContractCheck([spec])({"x": array})
    return flagged


def code(*arguments: Any, **checks: Any) -> str:
    with pytest.raises(InputRefused) as error:
        flags(*arguments, **checks)
    return error.value.code


def age(years: float) -> float:
    return float(np.float32((years - 40.1) / 18.9))


# --- constant


def test_a_constant_sample_passes_unless_the_contract_minds() -> None:
    assert flags([[0.5, 0.5]]) == {}
    assert flags([[0.5, 0.5]], constant="flag") == {"constant": 1}
    assert code([[0.5, 0.5]], constant="refuse") == "constant"


def test_nearly_constant_is_as_near_as_the_contract_says() -> None:
    assert flags([[0.5, 0.51]], constant="flag") == {}
    assert flags([[0.5, 0.51]], constant="flag", constant_within=0.02) == {"constant": 1}


def test_each_sample_of_a_batch_is_looked_at() -> None:
    batch = [[0.1, 0.9], [0.5, 0.5], [0.2, 0.2]]
    assert flags(batch, constant="flag") == {"constant": 2}
    assert code(batch, constant="refuse") == "constant"


# --- range


def test_values_far_outside_are_flagged_or_refused() -> None:
    assert flags([[0.5, 3.0]]) == {"out-of-range": 1}
    assert code([[0.5, 3.0]], out_of_range="refuse") == "out-of-range"
    assert flags([[0.5, 1.5]], out_of_range="refuse") == {}


def test_one_sample_can_be_odd_in_two_ways() -> None:
    assert flags([[3.0, 3.0]], constant="flag") == {"out-of-range": 1, "constant": 1}


# --- the schema of a table


@pytest.mark.parametrize("years", [0, 120, 40.1, 17.3])
def test_the_ends_of_a_column_are_inside_it(years: float) -> None:
    assert flags([[age(years), 0, 1, 2]], TABLE) == {}


@pytest.mark.parametrize(
    "row",
    [
        [age(-0.1), 0, 1, 2],
        [age(120.1), 0, 1, 2],
        [age(50), 0, 0, 2],  # no category
        [age(50), 1, 1, 2],  # two
        [age(50), 0.5, 0.5, 2],  # halves
        [age(50), 0, 1, 3],  # beyond the list
        [age(50), 0, 1, -1],
        [age(50), 0, 1, 1.5],
    ],
)
def test_a_row_outside_its_schema_is_refused_or_flagged(row: list[float]) -> None:
    good = [age(50), 1, 0, 0]
    assert code([good, row], TABLE) == "schema"
    assert flags([good, row], TABLE | {"outside": "flag"}) == {"schema": 1}


def test_a_table_of_integers_has_its_bounds_rounded_like_its_values() -> None:
    columns = [{"name": "a", "low": 0.4, "high": 9.6}]
    rule = Table.model_validate({"kind": "table", "columns": columns})
    check = ContractCheck([TensorSpec(name="x", shape=(1, 1), dtype="int32", prepare=rule)])
    for value, fits in ((0, True), (10, True), (-1, False), (11, False)):
        array = np.array([[value]], np.int32)
        if fits:
            assert check({"x": array})[1] == {}
        else:
            with pytest.raises(InputRefused):
                check({"x": array})
