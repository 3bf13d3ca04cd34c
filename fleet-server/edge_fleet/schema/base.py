"""What all tables share, and the table in which the database speaks of itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
