"""Several samples at once: a second form of an open model, where it is the same and faster.

An artifact has a batch axis of 1, and that is the computation that was verified. A form that is resized to
WIDE samples is another one; so it is used on proof only, asked for when a session first has so many samples:
on the bundle's golden inputs it must give what the form for one gives, bit for bit, and on this machine in
less time. What the gate found of the one then holds of the other. Who asks one by one has nothing opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AgentError, InferenceFailed
from edge_agent.runtimes.base import OpenModel, Tensors, TensorShape, Widens
from edge_contracts.errors import ContractError

log = logging.getLogger(__name__)

WIDE = 8  # more gain little (benchmarks/batch_forms.py), and each costs its activations
WORTH = 0.9  # of the time one by one; above, it is not worth its memory
ROUNDS = 5
Codes = Sequence[tuple[str, NDArray[Any]]]  # by tensor, shape (n, *artifact's tensor)


class WideForm:
    """The wide form of one open model. Used from its session's thread.

    Args:
        golden: Codes of some golden inputs, read when they are needed; None never runs several at once.
        worth: Used when it takes at most this share of the time one by one.
    """

    def __init__(
        self, narrow: OpenModel, golden: Callable[[], Codes] | None = None, worth: float = WORTH
    ) -> None:
        """Open nothing yet."""
        self._narrow, self._golden, self._worth = narrow, golden, worth
        self._wide: OpenModel | None = None
        self._is_tried = False

    def run(self, codes: Codes, count: int) -> tuple[list[Tensors], NDArray[np.float64]]:
        """Answer samples, as many at once as is faster; what each came to, and its share of the seconds.

        Raises:
            InferenceFailed: The runtime reported an error.
        """
        rows: list[Tensors] = []
        seconds = np.empty(count)
        if count >= WIDE and not self._is_tried:
            self._is_tried = True
            self._prove()
        while self._wide is not None and count - len(rows) >= WIDE:
            begin, before = len(rows), perf_counter()
            try:
                rows += _together(self._wide, codes, begin)
            except InferenceFailed as error:
                self.close()
                log.warning("samples are run one by one from now on", extra={"reason": str(error)})
                break
            seconds[begin : begin + WIDE] = (perf_counter() - before) / WIDE
        for sample in range(len(rows), count):
            before = perf_counter()
            rows.append(_one(self._narrow, codes, sample))
            seconds[sample] = perf_counter() - before
        return rows, seconds

    def close(self) -> None:
        """Give the wide form's memory back."""
        if self._wide is not None:
            self._wide.close()
            self._wide = None

    def _prove(self) -> None:
        """Open the wide form, and keep it if it is the same and faster."""
        narrow = self._narrow
        if self._golden is None or not isinstance(narrow, Widens) or not _can_be_wide(narrow):
            return
        try:
            wide = narrow.widened(WIDE)
        except AgentError as error:
            log.info("samples are run one by one", extra={"reason": str(error)})
            return
        try:
            reason = self._unfit(wide, self._golden())
        except (AgentError, ContractError) as error:
            reason = str(error)
        if reason:
            log.info("samples are run one by one", extra={"reason": reason})
            wide.close()
            return
        self._wide = wide

    def _unfit(self, wide: OpenModel, known: Codes) -> str:
        """Why a wide form is not to be used; "" when it is."""
        for mine, others in ((self._narrow.inputs, wide.inputs), (self._narrow.outputs, wide.outputs)):
            if {name: _widened(shape) for name, shape in mine.items()} != dict(others):
                return f"the file does not take {WIDE} samples as {WIDE}"
        golden = [(tensor, values[np.arange(WIDE) % len(values)]) for tensor, values in known]
        alone = [_one(self._narrow, golden, sample) for sample in range(WIDE)]
        if not _are_equal(alone, _together(wide, golden, 0)):
            return f"{WIDE} golden inputs at once are answered otherwise than one by one"
        apart, joined = [], []
        for _ in range(ROUNDS):
            began = perf_counter()
            for sample in range(WIDE):
                _one(self._narrow, golden, sample)
            between = perf_counter()
            _together(wide, golden, 0)
            apart.append(between - began)
            joined.append(perf_counter() - between)
        if min(joined) > self._worth * min(apart):
            return f"{WIDE} at once take {min(joined) / min(apart):.2f} of the time one by one"
        return ""


def _one(model: OpenModel, codes: Codes, sample: int) -> Tensors:
    return model.run({tensor: values[sample] for tensor, values in codes})


def _together(model: OpenModel, codes: Codes, begin: int) -> list[Tensors]:
    """WIDE samples at once; each answer in the shape that one has."""
    asked = {}
    for tensor, values in codes:
        part = values[begin : begin + WIDE]
        asked[tensor] = np.ascontiguousarray(part.reshape(WIDE, *part.shape[2:]))
    found = model.run(asked)
    return [{tensor: values[row : row + 1] for tensor, values in found.items()} for row in range(WIDE)]


def _can_be_wide(model: OpenModel) -> bool:
    shapes = [*model.inputs.values(), *model.outputs.values()]
    return all(tensor.shape[:1] == (1,) for tensor in shapes)


def _widened(tensor: TensorShape) -> TensorShape:
    return TensorShape(tensor.dtype, (WIDE, *tensor.shape[1:]))


def _are_equal(
    some: Sequence[Mapping[str, NDArray[Any]]], others: Sequence[Mapping[str, NDArray[Any]]]
) -> bool:
    return all(
        one[name].tobytes() == other[name].tobytes()
        for one, other in zip(some, others, strict=True)
        for name in one
    )
