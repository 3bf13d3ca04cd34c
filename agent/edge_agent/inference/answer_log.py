"""The answers of the daemon as a file: one JSON object a line, appended, for whatever reads them next."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edge_agent.doubt.lineup import Settled
from edge_agent.errors import HomeInvalid
from edge_agent.inference.source import Sample
from edge_agent.input.interpret import interpret

log = logging.getLogger(__name__)


class AnswerLog:
    """Appends answers to an open file; a full disk costs lines, never inferences."""

    def __init__(self, stream: TextIO) -> None:
        """Take a file that is open for writing."""
        self._stream = stream
        self._lost = 0

    @staticmethod
    @contextmanager
    def opened(path: Path | None) -> Iterator[AnswerLog | None]:
        """A log that appends to a file, or none.

        Raises:
            HomeInvalid: The file cannot be written.
        """
        if path is None:
            yield None
            return
        try:
            stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise HomeInvalid(f"cannot write answers to {path}: {error.strerror}") from None
        with stream:
            yield AnswerLog(stream)

    def write(self, settled: Settled, sample: Sample) -> None:
        """Append one answer: its origin, the bundle that gave it, the outputs, and whether to trust them."""
        answer = settled.answer
        outputs = {
            name: np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]
            if values.dtype.kind == "f"
            else values.tolist()
            for name, values in answer.outputs.items()
        }
        line: dict[str, Any] = {
            "input": sample.origin,
            "bundle": settled.serving.bundle,
            "outputs": outputs,
            "latency_ms": round(sum(answer.took_ms), 4),
            "uncertain": settled.uncertain,
        }
        manifest = settled.serving.session.manifest
        if manifest.interpret is not None:
            line["answers"] = interpret(manifest, answer.outputs, sample.view)
        if settled.confidence:
            line["confidence"] = round(min(settled.confidence), 6)
        try:
            self._stream.write(json.dumps(line) + "\n")
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                log.error("answers not written", extra={"reason": str(error)})
