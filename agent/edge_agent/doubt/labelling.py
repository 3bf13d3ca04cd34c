"""`feedback(request, label)`: what a label from outside does on this device.

It counts for the model that answered (`feedback.py`), and it is noted with the input where that is kept
for review (`ring.py`): input and label are a pair for retraining. Called by the HTTP server, the
command line's order and applications; any thread may.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from numpy.typing import NDArray

from edge_agent.doubt.feedback import FeedbackBook, Judged, class_of, name_of
from edge_agent.doubt.reviewer import Reviewer
from edge_agent.doubt.ring import Head
from edge_agent.errors import FeedbackRefused, InputRefused
from edge_agent.inference.contract import ContractCheck
from edge_contracts.manifest import Manifest

UNKNOWN = "unknown-request"


@dataclass(frozen=True)
class Labelled:
    """What became of a label.

    Args:
        correct: Whether the answer was right; None where nobody remembers the answer.
        kept: The input is kept for review, with this label.
    """

    correct: bool | None
    kept: bool

    def __str__(self) -> str:
        """As a person reads it."""
        said = {True: "the answer was right", False: "the answer was wrong", None: "the answer is forgotten"}
        return said[self.correct] + (
            "; the label is noted with the input kept for review" if self.kept else ""
        )


class Feedback:
    """Takes labels. Call it: `feedback(request_id, label)`.

    Args:
        manifest_of: The manifest of a bundle that is open now, or None.
    """

    def __init__(
        self, book: FeedbackBook, reviewer: Reviewer, manifest_of: Callable[[str], Manifest | None]
    ) -> None:
        """Take the parts."""
        self._book, self._reviewer, self._manifest_of = book, reviewer, manifest_of

    def __call__(
        self, request_id: str, label: str | int, inputs: Mapping[str, NDArray[Any]] | None = None
    ) -> Labelled:
        """Take the right answer to a request that was answered before.

        Args:
            request_id: What the client called the request (`Request.origin`; the id of KServe's protocol).
            label: The class by its name or number.
            inputs: Of the request, shape (1, ...) each, when the client sends them again: then they are
                kept with the label, whether the model was sure or not, while that model is open.

        Raises:
            FeedbackRefused: "unknown-request" or "bad-label"; nothing was counted or kept.
            InputRefused: The label counts, but the inputs are not what the model takes.
            HomeInvalid: The label counts, but the review ring cannot be written.
        """
        judged: Judged | None = None
        try:
            judged = self._book.judge(request_id, label)
        except FeedbackRefused as refused:
            if refused.code != UNKNOWN:
                raise
            unknown = refused

        def class_for(head: Head) -> tuple[int, str]:
            if judged is not None:
                return judged.label, judged.label_name
            return _class_in(head, label, self._manifest_of(head.bundle))

        kept = self._reviewer.ring.label(request_id, class_for, self._reviewer.bounds) is not None
        if judged is None and not kept:
            raise unknown
        if judged is not None and not kept and inputs is not None:
            kept = self._keep(_head(request_id, judged), inputs)
        return Labelled(judged.correct if judged is not None else None, kept)

    def _keep(self, head: Head, inputs: Mapping[str, NDArray[Any]]) -> bool:
        manifest = self._manifest_of(head.bundle)
        if manifest is None:
            return False
        checked, _ = ContractCheck(manifest.inputs)(inputs)
        samples = next(iter(checked.values())).shape[0]
        if samples != 1:
            raise InputRefused("shape", f"{samples} samples for one label, expected 1")
        return self._reviewer.keep_now(head, checked)


def label_kept(reviewer: Reviewer, request_id: str, label: str) -> Labelled:
    """The same while no daemon runs: answers are forgotten, but the input may be kept.

    Raises:
        FeedbackRefused, HomeInvalid: As `Feedback`.
    """
    return Feedback(FeedbackBook(1), reviewer, lambda _: None)(request_id, label)


def _class_in(head: Head, label: str | int, manifest: Manifest | None) -> tuple[int, str]:
    """The class that is meant, when the answer itself is forgotten."""
    if manifest is not None:
        classes = 1
        for size in manifest.outputs[0].shape[1:]:
            classes *= size
        number = class_of(label, manifest.labels, classes)
        return number, name_of(number, manifest.labels)
    if label == head.answer_name and head.answer is not None:
        return head.answer, head.answer_name
    try:
        number = int(label)
    except ValueError:
        number = -1
    if number < 0:
        raise FeedbackRefused(
            "bad-label",
            f"label {label!r:.80} is no number, and the model that answered is not open to say its classes; "
            "give the class by its number, or start the agent",
        )
    return number, ""


def _head(request_id: str, judged: Judged) -> Head:
    return Head(
        request=request_id[:300],
        time_ms=max(0, int(time() * 1000)),
        bundle=judged.bundle,
        artifact=judged.artifact,
        reason="label",
        confidence=judged.confidence,
        answer=judged.answer,
        label=judged.label,
        label_name=judged.label_name[:200],
    )
