"""Labels that come back: matched with the answers they are for, and counted by model.

Answers are remembered by what their request was called, in bounded memory: the oldest are forgotten.
The inputs are not remembered here; those of uncertain answers are in the review ring.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass, field
from math import isnan, nan

import numpy as np

from edge_agent.doubt.honesty import Honesty
from edge_agent.errors import FeedbackRefused
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer
from edge_contracts.lineup import LineupCounts
from edge_contracts.messages import Window

REMEMBERED = 1 << 16  # answers that wait for labels: 1.1 MB, touched as it fills
MAX_MODELS = 8  # whose answers may still get labels; a model's counts are small, its manifest is not kept


@dataclass(frozen=True)
class Judged:
    """What a label said of an answer.

    Args:
        bundle, artifact: Of the model that had answered.
        answer, label: Class that it gave, and the right one.
        label_name: "" where the model has no names.
    """

    bundle: str
    artifact: str
    answer: int
    label: int
    label_name: str
    confidence: float | None

    @property
    def correct(self) -> bool:
        """Whether the answer was right."""
        return self.answer == self.label


@dataclass
class _Model:
    """One model whose answers are remembered, and what labels said since the last window."""

    bundle: str
    artifact: str
    runtime: str
    labels: tuple[str, ...]
    classes: int
    honesty: Honesty = field(default_factory=Honesty)
    labelled: int = 0
    correct: int = 0
    rated: int = 0
    rated_correct: int = 0
    rated_confidence: float = 0.0


class FeedbackBook:
    """The answers that wait for labels. Any thread may use it.

    Args:
        size: How many answers are remembered.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        """Begin with nothing remembered."""
        self._lock = threading.Lock()
        # a name is kept as its 64-bit hash, salted anew in each process: two of 65,536 are as good as
        # never the same, and nobody outside can make them so
        self._names = array("q", bytes(8 * size))
        self._classes = array("i", bytes(4 * size))
        self._confidence = array("f", bytes(4 * size))
        self._by = array("h", bytes(2 * size))
        self._size, self._next = size, 0
        self._models: list[_Model] = []
        self._last: tuple[Serving, int] | None = None
        self._accused: list[str] = []

    def remember(
        self, request_id: str, serving: Serving, answer: Answer, confidence: tuple[float, ...]
    ) -> None:
        """Keep a classifier's answer to a request of one sample until its label comes."""
        if serving.session.manifest.task != "classification" or answer.samples != 1:
            return
        top = int(answer.outputs[serving.session.manifest.outputs[0].name].argmax())
        with self._lock:
            place, self._next = self._next, (self._next + 1) % self._size
            self._classes[place] = top
            self._confidence[place] = confidence[0] if confidence else nan
            self._by[place] = self._index(serving)
            self._names[place] = hash(request_id) or 1

    def judge(self, request_id: str, label: str | int) -> Judged:
        """Take the right answer to a request that was answered before; each counts once.

        Args:
            label: The class by name, or by number (also in digits).

        Raises:
            FeedbackRefused: "unknown-request" (never answered, forgotten, or labelled already) or
                "bad-label".
        """
        with self._lock:
            found = np.flatnonzero(np.frombuffer(self._names, np.int64) == (hash(request_id) or 1))
            if not found.size:
                raise FeedbackRefused(
                    "unknown-request",
                    f"no answer to request {request_id!r:.80} waits for a label: it is unknown, "
                    "labelled already, or too long ago",
                )
            # a name that was used twice means its latest request
            place = int(found[np.argmin((self._next - 1 - found) % self._size)])
            model = self._models[self._by[place]]
            wanted = class_of(label, model.labels, model.classes)
            self._names[place] = 0
            correct, confidence = self._classes[place] == wanted, self._confidence[place]
            model.labelled += 1
            model.correct += correct
            if not isnan(confidence):
                model.rated += 1
                model.rated_correct += correct
                model.rated_confidence += confidence
                if model.honesty.see(confidence, correct):
                    self._accused.append(model.bundle)
            return Judged(
                model.bundle,
                model.artifact,
                self._classes[place],
                wanted,
                name_of(wanted, model.labels),
                None if isnan(confidence) else confidence,
            )

    def cut(self, bundle: str, counts: LineupCounts) -> LineupCounts:
        """Add what labels said of a model since its last window."""
        with self._lock:
            model = next((model for model in self._models if model.bundle == bundle), None)
            return counts if model is None else _with_labels(counts, model)

    def late(self, now_ms: int, open_bundles: frozenset[str]) -> list[Window]:
        """Windows without inferences for labels of models that are not open any more."""
        with self._lock:
            return [
                Window(
                    bundle=model.bundle,
                    artifact=model.artifact,
                    runtime=model.runtime,
                    start_ms=now_ms,
                    end_ms=now_ms,
                    duration_ms=0,
                    inferences=0,
                    lineup=_with_labels(LineupCounts(), model),
                )
                for model in self._models
                if model.labelled and model.bundle not in open_bundles
            ]

    def take_accused(self) -> list[str]:
        """Bundles whose confidence labels have shown to be too high since this was last asked."""
        with self._lock:
            taken, self._accused = self._accused, []
        return taken

    def _index(self, serving: Serving) -> int:
        """The place of a model among those remembered."""
        if self._last is not None and self._last[0] is serving:
            return self._last[1]
        index = next((i for i, m in enumerate(self._models) if m.bundle == serving.bundle), None)
        if index is None:
            session = serving.session
            outputs = session.manifest.outputs[0].shape[1:]
            model = _Model(
                serving.bundle,
                session.artifact.id,
                session.runtime[:64],
                session.manifest.labels,
                int(np.prod(outputs)),
            )
            index = self._place(model)
        self._last = (serving, index)
        return index

    def _place(self, model: _Model) -> int:
        if len(self._models) < MAX_MODELS:
            self._models.append(model)
            return len(self._models) - 1
        # the model of the oldest answer goes, and with it every answer of its that still waits
        index = self._by[self._next]
        names, by = np.frombuffer(self._names, np.int64), np.frombuffer(self._by, np.int16)
        names[by == index] = 0
        self._models[index] = model
        return index


def class_of(label: str | int, labels: tuple[str, ...], classes: int) -> int:
    """The number of a class by its name or number.

    Raises:
        FeedbackRefused: "bad-label": there is no such class.
    """
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    try:
        number = int(label)
    except ValueError:
        number = -1
    if not 0 <= number < classes:
        known = ", ".join(labels[:20]) or f"numbers below {classes}"
        raise FeedbackRefused("bad-label", f"label {label!r:.80} is no class of the model; it has {known}")
    return number


def name_of(number: int, labels: tuple[str, ...]) -> str:
    """What a class is called, "" where it has no name."""
    return labels[number] if number < len(labels) else ""


def _with_labels(counts: LineupCounts, model: _Model) -> LineupCounts:
    found = counts.model_copy(
        update={
            "labelled": model.labelled,
            "correct": model.correct,
            "rated": model.rated,
            "rated_correct": model.rated_correct,
            "rated_confidence": model.rated_confidence,
            "overstated": model.honesty.overstated,
        }
    )
    model.labelled = model.correct = model.rated = model.rated_correct = 0
    model.rated_confidence = 0.0
    return found
