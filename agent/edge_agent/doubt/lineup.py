"""The open models of a device and how they share the requests. Used from the inference thread only.

The active model answers, or the other arm of an experiment (`routing.py`); what it is unsure of or fails
on goes to the second model, and what that is unsure of too goes out marked as uncertain (`ladder.py`).
Which bundles they are is stored and opened by `keeper.py`; a shadow and the review ring only look on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.ladder import ASKS_SECOND, VERDICTS, Found, Verdict, find
from edge_agent.doubt.routing import is_chosen
from edge_agent.errors import InferenceFailed, InputRefused
from edge_agent.inference.request import Reply, Request
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Answer
from edge_contracts.lineup import LineupCounts, ShadowCounts
from edge_contracts.messages import Window


@dataclass(frozen=True, eq=False)
class Experiment:
    """Two models beside each other.

    Args:
        name: Salts the hash that divides the requests.
        arm_b: The other arm; arm A is the active model.
        per_mille: Share of arm B.
    """

    name: str
    arm_b: Serving
    per_mille: int


@dataclass(frozen=True, eq=False)
class Members:
    """Who answers beside the active model."""

    second: Serving | None = None
    experiment: Experiment | None = None

    @property
    def servings(self) -> tuple[Serving, ...]:
        """All of them."""
        arm_b = self.experiment.arm_b if self.experiment is not None else None
        return tuple(serving for serving in (arm_b, self.second) if serving is not None)


@dataclass(frozen=True, eq=False)
class Settled:
    """What a request came to.

    Args:
        answer: Of the model in `serving`.
        confidence: Of each sample; empty where the bundle has no calibration.
        uncertain: No model was sure.
        path: Each rung that was tried and what it found, such as "active:unsure", "second:sure".
    """

    answer: Answer
    serving: Serving
    confidence: tuple[float, ...]
    uncertain: bool
    path: tuple[str, ...]

    def reply(self) -> Reply:
        """What the client is told."""
        answer, session = self.answer, self.serving.session
        return Reply(
            answer.outputs,
            sum(answer.took_ms),
            session.manifest.name,
            session.manifest.version,
            self.serving.bundle,
            session.artifact.id,
            session.manifest,
            answer.flagged,
            self.uncertain,
            min(self.confidence, default=None),
            self.path,
        )


class Onlooker(Protocol):
    """Who sees what was settled: a shadow, the review ring. Called in the inference thread: quick."""

    def see(self, request: Request, settled: Settled) -> None:
        """Look at it; the arrays are the client's and must be copied to be kept."""


class Shadow(Onlooker, Protocol):
    """A shadow also counts."""

    def cut(self) -> ShadowCounts:
        """Close its counts and open the next."""


class Lineup:
    """The models and their rules.

    Args:
        book: Remembers answers until their labels come.
    """

    def __init__(self, book: FeedbackBook | None = None) -> None:
        """Begin with no model beside the active one."""
        self.book = book
        self._members = Members()
        self._shadow: Shadow | None = None
        self._review: Onlooker | None = None

    def answer(self, active: Serving, request: Request) -> Settled:
        """Answer a request, on as many rungs as it takes, and count what came of it.

        Raises:
            InputRefused: The contract does not allow an input.
            InferenceFailed: No model could answer.
        """
        first, members = active, self._members
        experiment = members.experiment
        if experiment is not None:
            key = request.routing_key or request.origin or request.client
            if is_chosen(experiment.name, key, experiment.per_mille):
                first = experiment.arm_b
        part = first.part
        try:
            answer = first.infer(request.inputs, request.client)
        except InferenceFailed:
            if members.second is None:
                raise
            settled = self._after_failure(first, members.second, request)
        else:
            confidence = () if part.rule is None else part.rule(answer.outputs)
            part.rate(confidence)
            found = find(part.rule, confidence)
            if found not in ASKS_SECOND:
                part.sure += answer.samples
                settled = Settled(answer, first, confidence, False, (_rung(part.role, found),))
            else:
                settled = self._after_doubt(first, answer, confidence, members.second, request)
        if self.book is not None and request.origin:
            self.book.remember(request.origin, settled.serving, settled.answer, settled.confidence)
        if self._review is not None:
            self._review.see(request, settled)
        if self._shadow is not None:
            self._shadow.see(request, settled)
        return settled

    def change(self, members: Members) -> list[Window]:
        """Go on with other models beside the active one.

        Returns:
            The last windows of those that are gone; their sessions are closed.
        """
        before, self._members = self._members, members
        windows = []
        for serving in before.servings:
            if serving not in members.servings:
                windows.append(self.cut(serving))
                serving.session.close()
        return windows

    def watch(self, review: Onlooker | None, shadow: Shadow | None) -> None:
        """Let others look on from the next request on."""
        self._review, self._shadow = review, shadow

    def cut(self, serving: Serving, trial: bool = False) -> Window:
        """Close one model's window, with its part in it."""
        counts = serving.part.cut()
        if self.book is not None:
            counts = self.book.cut(serving.bundle, counts)
        if self._shadow is not None and serving.part.role == "active":
            counts = counts.model_copy(update={"shadow": self._shadow.cut()})
        window = serving.cut(trial)
        # a device with one model that brings no calibration has nothing to say here
        is_plain = serving.part.rule is None and counts == LineupCounts(sure=counts.sure)
        if is_plain and not self._members.servings:
            return window
        return window.model_copy(update={"lineup": counts})

    def cut_others(self) -> list[Window]:
        """Close the windows of all but the active model."""
        return [self.cut(serving) for serving in self._members.servings]

    def _after_doubt(
        self,
        first: Serving,
        answer: Answer,
        confidence: tuple[float, ...],
        second: Serving | None,
        request: Request,
    ) -> Settled:
        """The first model is unsure: ask the second, or say so."""
        path: tuple[str, ...] = (_rung(first.part.role, Found.UNSURE),)
        if second is None:
            first.part.uncertain += answer.samples
            return Settled(answer, first, confidence, True, path)
        asked = _ask(second, request)
        path = (*path, _rung(second.part.role, asked.found))
        verdict = VERDICTS[Found.UNSURE, asked.found]
        if verdict is Verdict.SECOND and asked.answer is not None:
            first.part.second += answer.samples
            second.part.sure += answer.samples
            return Settled(asked.answer, second, asked.confidence, False, path)
        first.part.uncertain += answer.samples
        if verdict is Verdict.UNCERTAIN_SECOND and asked.answer is not None:
            return Settled(asked.answer, second, asked.confidence, True, path)
        return Settled(answer, first, confidence, True, path)

    def _after_failure(self, first: Serving, second: Serving, request: Request) -> Settled:
        """The first model's runtime failed: the second is all there is.

        Raises:
            InferenceFailed: It failed too.
        """
        asked = _ask(second, request)
        if asked.answer is None:
            raise InferenceFailed(f"both models failed; the second: {asked.failure}")
        path = (_rung(first.part.role, Found.FAILED), _rung(second.part.role, asked.found))
        uncertain = VERDICTS[Found.FAILED, asked.found] is not Verdict.SECOND
        if uncertain:
            first.part.uncertain += asked.answer.samples
        else:
            first.part.second += asked.answer.samples
            second.part.sure += asked.answer.samples
        return Settled(asked.answer, second, asked.confidence, uncertain, path)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What the second model made of a request."""

    found: Found
    answer: Answer | None = None
    confidence: tuple[float, ...] = ()
    failure: str = ""


def _ask(second: Serving, request: Request) -> _Asked:
    try:
        answer = second.infer(request.inputs)
    except (InferenceFailed, InputRefused) as error:
        return _Asked(Found.FAILED, failure=str(error))
    rule = second.part.rule
    confidence = () if rule is None else rule(answer.outputs)
    second.part.rate(confidence)
    return _Asked(find(rule, confidence), answer, confidence)


_RUNGS = {(role, found): f"{role}:{found}" for role in ("active", "arm-b", "second") for found in Found}


def _rung(role: str, found: Found) -> str:
    return _RUNGS[role, found]
