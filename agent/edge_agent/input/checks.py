"""What a contract asks of an input beyond shape, dtype and finite numbers: constant samples, table schemas.

`inference/contract.py` calls it for inputs whose contract states `checks` or a table; others cost nothing.
Pure, by batch. A source that repeats itself is seen by `stuck.py`, which remembers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_contracts.input_rules import Schema, constant
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Checks, Table

CONSTANT = "constant"
SCHEMA = "schema"


class MoreChecks:
    """One input's further rules, worked out once."""

    def __init__(self, spec: TensorSpec) -> None:
        """Take the rules from the contract."""
        checks = spec.checks or Checks()
        self._name = spec.name
        self._constant = checks.constant
        self._within = checks.constant_within
        table = spec.prepare if isinstance(spec.prepare, Table) else None
        self._outside = "flag" if table is None else table.outside
        self._schema = None if table is None else Schema(table, spec.dtype)

    @staticmethod
    def of(spec: TensorSpec) -> MoreChecks | None:
        """The rules of an input, or None where it has no more."""
        checks = spec.checks or Checks()
        is_plain = checks.constant == "allow" and not isinstance(spec.prepare, Table)
        return None if is_plain else MoreChecks(spec)

    def __call__(self, values: NDArray[Any], low: float, high: float, flagged: dict[str, int]) -> None:
        """Check a batch.

        Args:
            values: Shape (n, ...), finite.
            low, high: Its smallest and largest value.
            flagged: Gets the number of samples by reason.

        Raises:
            InputRefused: "constant" or "schema".
        """
        # one sample's ends are the batch's, and the ends of several differ at least as much as of each
        if self._constant != "allow" and (values.shape[0] > 1 or high - low <= self._within):
            wrong = constant(values, self._within)
            self._mark(wrong, CONSTANT, self._constant, "is the same everywhere", flagged)
        if self._schema is not None:
            wrong = self._schema.outside(values)
            self._mark(wrong, SCHEMA, self._outside, "is outside its table's columns", flagged)

    def _mark(
        self, wrong: NDArray[np.bool_], reason: str, strictness: str, what: str, flagged: dict[str, int]
    ) -> None:
        count = int(np.count_nonzero(wrong))
        if not count:
            return
        if strictness == "refuse":
            raise InputRefused(reason, f"input {self._name!r} {what} in sample {int(np.argmax(wrong))}")
        flagged[reason] = max(count, flagged.get(reason, 0))
