"""Labels that come back: matched with the answers they are for, and counted by model.

Answers are remembered by what their request was called, in bounded memory: the oldest are forgotten.
The inputs are not remembered here; those of uncertain answers are in the review ring. `shelf.py` keeps what
is remembered over restarts, page by page.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isnan, nan

import numpy as np

from edge_agent.doubt.honesty import Honesty
from edge_agent.doubt.remembered import ANSWER, PAGE, Answerer, Page
from edge_agent.errors import FeedbackRefused
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer
from edge_contracts.lineup import LineupCounts
from edge_contracts.messages import Window

REMEMBERED = 1 << 16  # answers that wait for labels: 1.1 MB, touched as it fills
SALT_BYTES = 16
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
    """What labels said of one model since the last window."""

    about: Answerer
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
        salt: Of the names.
    """

    def __init__(self, size: int = REMEMBERED, salt: bytes = b"") -> None:
        """Begin with nothing remembered."""
        self._lock = threading.Lock()
        # a name is kept as 64 bits of BLAKE2b (RFC 7693) under a key that stays on the device: two of
        # 65,536 are as good as never the same, nobody outside can make them so, and none can be read back
        self.salt = salt or os.urandom(SALT_BYTES)
        self._hash = blake2b(digest_size=8, key=self.salt)
        self._names = array("q", bytes(8 * size))
        self._classes = array("i", bytes(4 * size))
        self._confidence = array("f", bytes(4 * size))
        self._by = array("h", bytes(2 * size))
        self._size, self._total = size, 0  # how many places, how many answers ever
        self._changed = bytearray(-(-size // PAGE))
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
            place, self._total = self._total % self._size, self._total + 1
            self._classes[place] = top
            self._confidence[place] = confidence[0] if confidence else nan
            self._by[place] = self._index(serving)
            self._names[place] = self._name(request_id)
            self._changed[place // PAGE] = 1

    def judge(self, request_id: str, label: str | int) -> Judged:
        """Take the right answer to a request that was answered before; each counts once.

        Args:
            label: The class by name, or by number (also in digits).

        Raises:
            FeedbackRefused: "unknown-request" (never answered, forgotten, or labelled already) or
                "bad-label".
        """
        with self._lock:
            found = np.flatnonzero(np.frombuffer(self._names, np.int64) == self._name(request_id))
            if not found.size:
                raise FeedbackRefused(
                    "unknown-request",
                    f"no answer to request {request_id!r:.80} waits for a label: it is unknown, "
                    "labelled already, or too long ago",
                )
            # a name that was used twice means its latest request
            place = int(found[np.argmin((self._total - 1 - found) % self._size)])
            model = self._models[self._by[place]]
            about = model.about
            wanted = class_of(label, about.labels, about.classes)
            self._names[place] = 0
            self._changed[place // PAGE] = 1
            correct, confidence = self._classes[place] == wanted, self._confidence[place]
            model.labelled += 1
            model.correct += correct
            if not isnan(confidence):
                model.rated += 1
                model.rated_correct += correct
                model.rated_confidence += confidence
                if model.honesty.see(confidence, correct):
                    self._accused.append(about.bundle)
            return Judged(
                about.bundle,
                about.artifact,
                self._classes[place],
                wanted,
                name_of(wanted, about.labels),
                None if isnan(confidence) else confidence,
            )

    def cut(self, bundle: str, counts: LineupCounts) -> LineupCounts:
        """Add what labels said of a model since its last window."""
        with self._lock:
            model = next((model for model in self._models if model.about.bundle == bundle), None)
            return counts if model is None else _with_labels(counts, model)

    def late(self, now_ms: int, open_bundles: frozenset[str]) -> list[Window]:
        """Windows without inferences for labels of models that are not open any more."""
        with self._lock:
            return [
                Window(
                    bundle=model.about.bundle,
                    artifact=model.about.artifact,
                    runtime=model.about.runtime,
                    start_ms=now_ms,
                    end_ms=now_ms,
                    duration_ms=0,
                    inferences=0,
                    lineup=_with_labels(LineupCounts(), model),
                )
                for model in self._models
                if model.labelled and model.about.bundle not in open_bundles
            ]

    def take_accused(self) -> list[str]:
        """Bundles whose confidence labels have shown to be too high since this was last asked."""
        with self._lock:
            taken, self._accused = self._accused, []
        return taken

    def take_changed(self, most: int) -> list[Page]:
        """Copies of pages that have changed since they were last taken; they count as stored then."""
        with self._lock:
            numbers = [number for number, changed in enumerate(self._changed) if changed][:most]
            for number in numbers:
                self._changed[number] = 0
            return [self._page(number) for number in numbers]

    def put_back(self, numbers: Iterable[int]) -> None:
        """These pages could not be stored: they have changed still."""
        for number in numbers:
            self._changed[number] = 1

    def forget(self) -> None:
        """Remember nothing any more, under another salt; what labels have said so far still counts."""
        with self._lock:
            self.salt = os.urandom(SALT_BYTES)
            self._hash = blake2b(digest_size=8, key=self.salt)
            np.frombuffer(self._names, np.int64)[:] = 0
            self._changed = bytearray(len(self._changed))

    def restore(self, pages: Sequence[Page]) -> None:
        """Remember what was stored by an earlier process; only before anything is remembered."""
        names, by = np.frombuffer(self._names, np.int64), np.frombuffer(self._by, np.int16)
        classes = np.frombuffer(self._classes, np.int32)
        confidence = np.frombuffer(self._confidence, np.float32)
        with self._lock:
            for page in sorted(pages, key=lambda page: -page.total):  # the newest models have the room
                start, answers = page.number * PAGE, page.answers
                if start + len(answers) > self._size:
                    continue
                self._total = max(self._total, page.total)
                places = slice(start, start + len(answers))
                names[places], classes[places] = answers["name"], answers["class"]
                confidence[places] = answers["confidence"]
                renumbered = np.full(MAX_MODELS, -1, np.int16)
                for number, about in page.models.items():
                    if 0 <= number < MAX_MODELS:
                        renumbered[number] = self._restored(about)
                stated = answers["by"]
                by[places] = np.where(
                    (stated >= 0) & (stated < MAX_MODELS), renumbered[stated.clip(0, MAX_MODELS - 1)], -1
                )
                names[places][by[places] < 0] = 0
                by[places][by[places] < 0] = 0

    def _name(self, request_id: str) -> int:
        """The 64 bits by which a request is remembered; never 0."""
        hashed = self._hash.copy()
        hashed.update(request_id.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest(), "little", signed=True) or 1

    def _page(self, number: int) -> Page:
        places = slice(number * PAGE, min((number + 1) * PAGE, self._size))
        answers = np.empty(places.stop - places.start, ANSWER)
        answers["name"], answers["class"] = self._names[places], self._classes[places]
        answers["confidence"], answers["by"] = self._confidence[places], self._by[places]
        used = np.flatnonzero(answers["name"])
        answers = answers[: used[-1] + 1 if used.size else 0]
        present = set(answers["by"][answers["name"] != 0].tolist())
        return Page(number, self._total, {by: self._models[by].about for by in present}, answers)

    def _restored(self, about: Answerer) -> int:
        """The place of a stored model; -1 when there is no room."""
        index = next((i for i, m in enumerate(self._models) if m.about.bundle == about.bundle), None)
        if index is None and len(self._models) < MAX_MODELS:
            self._models.append(_Model(about))
            return len(self._models) - 1
        return -1 if index is None else index

    def _index(self, serving: Serving) -> int:
        """The place of a model among those remembered."""
        if self._last is not None and self._last[0] is serving:
            return self._last[1]
        index = next((i for i, m in enumerate(self._models) if m.about.bundle == serving.bundle), None)
        if index is None:
            session = serving.session
            outputs = session.manifest.outputs[0].shape[1:]
            about = Answerer(
                serving.bundle,
                session.artifact.id,
                session.runtime[:64],
                session.manifest.labels,
                int(np.prod(outputs)),
            )
            index = self._place(_Model(about))
        self._last = (serving, index)
        return index

    def _place(self, model: _Model) -> int:
        if len(self._models) < MAX_MODELS:
            self._models.append(model)
            return len(self._models) - 1
        # the model of the oldest answer goes, and with it every answer of its that still waits
        index = self._by[self._total % self._size]
        names, by = np.frombuffer(self._names, np.int64), np.frombuffer(self._by, np.int16)
        names[by == index] = 0
        self._changed = bytearray(b"\1" * len(self._changed))
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
