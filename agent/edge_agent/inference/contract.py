"""Checking inputs against the tensor contract: what is refused, and what is answered but flagged.

Refused: other names, other shapes, another kind of number, anything not finite. Flagged, or refused where
the contract says so: values far outside what calibration saw, and what `input/checks.py` adds. Everything is
pure; `session.py` calls it once per batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.input.checks import MoreChecks
from edge_contracts.manifest import TensorSpec

ONLY_INPUT = "x"  # what data files call a model's only input
LABELS = "y"  # what data files call the right answers; never an input unless the contract has one so named
FAR = 1.0  # widths of the calibrated range beyond its ends: outliers reach that far, wrong units go further
OUT_OF_RANGE = "out-of-range"


class InputCheck:
    """One input's rules, worked out once.

    Attributes:
        low, high: Finite numbers between which there is nothing to say.
    """

    def __init__(self, spec: TensorSpec) -> None:
        """Take the rules from the contract."""
        self.name = spec.name
        self._shape = spec.shape[1:]
        self._dtype = np.dtype(spec.dtype)
        # finite bounds, so that one comparison also sees what is infinite
        largest = float(np.finfo(self._dtype).max) if self._dtype.kind == "f" else np.inf
        self.low, self.high = -largest, largest
        if spec.value_range is not None:
            low, high = spec.value_range
            self.low, self.high = low - FAR * (high - low), high + FAR * (high - low)
        self._refuses_far = spec.checks is not None and spec.checks.out_of_range == "refuse"
        self._more = MoreChecks.of(spec)

    @property
    def asks_more(self) -> bool:
        """Whether there are rules beside shape, dtype, finite numbers and their range."""
        return self._more is not None

    def __call__(
        self, values: NDArray[Any], flagged: dict[str, int]
    ) -> tuple[NDArray[Any], tuple[float, float]]:
        """Check a batch.

        Args:
            values: Should be (n, ...) as in the contract.
            flagged: Gets the number of suspicious samples by reason.

        Returns:
            The batch in the contract's dtype; its smallest and its largest value.

        Raises:
            InputRefused: "shape", "dtype" or "not-finite"; "out-of-range", "constant" or "schema" where the
                contract says so.
        """
        if values.shape[1:] != self._shape or values.ndim == 0 or values.shape[0] == 0:
            expected = ", ".join(["n", *map(str, self._shape)])
            raise InputRefused(
                "shape", f"input {self.name!r} has shape {values.shape}, expected ({expected}), n >= 1"
            )
        if values.dtype != self._dtype:
            values = self._cast(values)
        # the place of a NaN is that of both ends, and no comparison with NaN is true; asking for the place
        # and then for the number takes half as long as np.minimum.reduce and np.maximum.reduce
        low = values.item(values.argmin())
        high = values.item(values.argmax())
        if self.low <= low and high <= self.high:
            if self._more is not None:
                self._more(values, low, high, flagged)
            return values, (low, high)
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(np.argmin(np.isfinite(values).reshape(values.shape[0], -1).all(axis=1)))
            raise InputRefused("not-finite", f"input {self.name!r} holds NaN or infinity in sample {bad}")
        flat = values.reshape(values.shape[0], -1)
        far = (flat.min(axis=1) < self.low) | (flat.max(axis=1) > self.high)
        if self._refuses_far:
            raise InputRefused(
                OUT_OF_RANGE,
                f"input {self.name!r} is far outside what the model was made with in sample "
                f"{int(np.argmax(far))}: {low:g} to {high:g}, expected {self.low:g} to {self.high:g}",
            )
        flagged[OUT_OF_RANGE] = max(int(far.sum()), flagged.get(OUT_OF_RANGE, 0))
        if self._more is not None:
            self._more(values, low, high, flagged)
        return values, (low, high)

    def _cast(self, values: NDArray[Any]) -> NDArray[Any]:
        """Another width of the same kind of number, when no value is lost."""
        if values.dtype.kind == "f" and self._dtype.kind == "f":
            with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused as such
                return values.astype(self._dtype)
        if values.dtype.kind in "iu" and self._dtype.kind in "iu":
            limits = np.iinfo(self._dtype)
            if int(values.min()) >= limits.min and int(values.max()) <= limits.max:
                return values.astype(self._dtype)
        raise InputRefused(
            "dtype",
            f"input {self.name!r} has dtype {values.dtype}, "
            f"expected {self._dtype} in the source model's own space",
        )


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A batch that may be answered.

    Args:
        inputs: In the contract's order, names and dtypes.
        ends: Smallest and largest value of each input.
        flagged: Samples that look suspicious, by reason.
        samples: Size of the batch.
    """

    inputs: dict[str, NDArray[Any]]
    ends: dict[str, tuple[float, float]]
    flagged: dict[str, int]
    samples: int


class ContractCheck:
    """All inputs' rules."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        """Take the rules from the contract."""
        self._checks = tuple(InputCheck(spec) for spec in specs)
        self._names = {spec.name for spec in specs}

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """Check a batch of every input.

        Args:
            inputs: By tensor name; a model's only input may be called "x". Labels "y" are left out.

        Returns:
            The inputs in the contract's order, names and dtypes; samples flagged, by reason.

        Raises:
            InputRefused: "names", or what `InputCheck` refuses.
        """
        checked = self.look(inputs)
        return checked.inputs, checked.flagged

    def look(self, inputs: Mapping[str, NDArray[Any]]) -> Checked:
        """The same, with what was seen on the way."""
        if inputs.keys() != self._names:
            inputs = self._rename(inputs)
        checked: dict[str, NDArray[Any]] = {}
        ends: dict[str, tuple[float, float]] = {}
        flagged: dict[str, int] = {}
        for check in self._checks:
            name = check.name
            checked[name], ends[name] = check(inputs[name], flagged)
        samples = checked[name].shape[0]
        if len(self._checks) > 1 and any(values.shape[0] != samples for values in checked.values()):
            found = ", ".join(f"{name!r} {values.shape[0]}" for name, values in checked.items())
            raise InputRefused("shape", f"inputs have different numbers of samples: {found}")
        return Checked(checked, ends, flagged, samples)

    def _rename(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        named = {name: values for name, values in inputs.items() if name in self._names or name != LABELS}
        if len(self._names) == 1 and named.keys() == {ONLY_INPUT}:
            return {next(iter(self._names)): named[ONLY_INPUT]}
        if named.keys() != self._names:
            hint = " (or 'x')" if len(self._names) == 1 else ""
            raise InputRefused(
                "names",
                f"found inputs {', '.join(map(repr, sorted(named))) or 'none'}, "
                f"expected {', '.join(map(repr, sorted(self._names)))}{hint}",
            )
        return named
