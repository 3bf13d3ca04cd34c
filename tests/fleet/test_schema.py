"""The tables are found under one name each, whichever module they stand in."""

import importlib
import pkgutil

from sqlalchemy import Table

from edge_fleet import schema


def test_every_module_of_tables_is_part_of_the_schema() -> None:
    for module in pkgutil.iter_modules(schema.__path__):
        found = vars(importlib.import_module(f"edge_fleet.schema.{module.name}"))
        for name, table in found.items():
            if isinstance(table, Table):
                assert schema.metadata.tables[name] is table
                assert getattr(schema, name) is table


def test_every_table_is_a_name_of_the_schema() -> None:
    assert {name for name, found in vars(schema).items() if isinstance(found, Table)} == set(
        schema.metadata.tables
    )
    assert len(schema.metadata.tables) > 30
