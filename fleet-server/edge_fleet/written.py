"""Plain values that are a contract's written form: what is said of them in `/openapi.json` is the contract's.

active: Annotated[dict[str, Any], Written(ActiveModel)] | None
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_contracts.model import Frozen

MARK = "x-contract"  # taken out again by `api/contract_schemas.py`


@dataclass(frozen=True)
class Written:
    """Metadata of an annotation."""

    kind: type[Frozen]

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """What the description of the API says of it, until its schema has a name there."""
        return {MARK: f"{self.kind.__module__}:{self.kind.__qualname__}"}
