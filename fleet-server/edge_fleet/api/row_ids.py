"""Numbers of rows as they come by HTTP: what fits a column of either database, and no other."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Path, Query

LAST = (1 << 63) - 1  # of SQLite's INTEGER and PostgreSQL's BIGINT

RowId: TypeAlias = Annotated[int, Path(ge=0, le=LAST)]
Skipped: TypeAlias = Annotated[int, Query(ge=0, le=LAST, description="Newer ones that are left out")]
