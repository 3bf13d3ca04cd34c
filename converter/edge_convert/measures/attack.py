"""An attack that only asks for answers: how small a change of an input makes a model change its mind.

HopSkipJump (Chen et al., arXiv:1904.02144) of the adversarial-robustness-toolbox, extra [robustness],
on the artifact itself in its own runtime, and on the source with the same budget: it needs classes
alone, so an int8 file that has no gradients is no obstacle. Distances are the largest change of any
one value, as a share of the contract's value range.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.binding import Model
from edge_convert.evidence import Answered
from edge_convert.graph import Array
from edge_convert.measures.corruptions import Space

# HopSkipJump's own knobs, and the questions a sample that end it in any case
ROUNDS, QUESTIONS, FIRST_QUESTIONS, STARTS = 10, 200, 50, 50
BUDGET = 2000
MOST_SAMPLES, FEWEST_SAMPLES = 20, 3
AFFORDABLE_MACS = 1e12  # of the source: a minute or so on one core
# a change that people do not see: the usual 8 of 255
SMALL = 8 / 255
_TOOLBOX = "art"


def require() -> None:
    """Fail before any work when the toolbox is not there.

    Raises:
        ModuleNotFoundError: It is not installed; its name is the module's.
    """
    if importlib.util.find_spec(_TOOLBOX) is None:
        raise ModuleNotFoundError(f"No module named {_TOOLBOX!r}", name=_TOOLBOX)


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack on one model came to.

    Args:
        distances: [n] of the changed sample that fools the model, infinite where none was found.
        questions: Asked of the model for each sample, in the mean.
        adversarial: [n] the changed samples.
    """

    distances: NDArray[np.float64]
    questions: float
    adversarial: Array

    def as_json(self, foreign_right: NDArray[np.bool_]) -> dict[str, Any]:
        """As report.json has it.

        Args:
            foreign_right: [n] whether the *other* model still gives its clean answer to these samples.
        """
        found = np.isfinite(self.distances)
        withstood = ~found | (self.distances > SMALL)
        return {
            "median_distance": float(np.median(self.distances[found])) if found.any() else None,
            "withstands_small": float(withstood.mean()),
            "fooled": float(found.mean()),
            "also_fools_the_other": float((~foreign_right[found]).mean()) if found.any() else None,
            "questions_per_sample": self.questions,
        }


def why_not(samples: Answered, space: Space | None, task: str) -> str:
    """Why a model cannot be attacked so; "" when it can."""
    if task != "classification":
        return "only classifiers change their mind"
    if len(samples.feeds) != 1 or space is None:
        return "only models with one input of real numbers are attacked"
    return ""


def how_many(macs: int) -> int:
    """How many samples of a model of so many multiply-accumulates are attacked."""
    return max(FEWEST_SAMPLES, min(MOST_SAMPLES, int(AFFORDABLE_MACS / (2 * BUDGET * max(1, macs)))))


class _Enough(Exception):
    """The model has been asked as often as allowed."""


class _Asked:
    """A model under attack: counts the questions, and keeps the nearest sample that fooled it."""

    def __init__(self, model: Model, name: str, clean: Array, own: int) -> None:
        self._model, self._name, self._clean, self._own = model, name, clean, own
        self.questions, self.distance, self.nearest = 0, np.inf, clean

    def answer(self, x: Array) -> Array:
        """Scores of changed samples; the attack sees nothing else of the model."""
        if self.questions + len(x) > BUDGET:
            raise _Enough
        self.questions += len(x)
        x = np.asarray(x, np.float32)
        scores = _scores(self._model, self._name, x)
        away = np.abs(x.astype(np.float64) - self._clean).reshape(len(x), -1).max(axis=1)
        away[scores.argmax(axis=1) == self._own] = np.inf
        if away.min() < self.distance:
            self.distance, self.nearest = float(away.min()), x[int(away.argmin())].copy()
        return scores


def attack(model: Model, name: str, pool: Array, count: int, space: Space) -> Attacked:
    """Look for the nearest sample with another answer, for each of the first samples.

    Args:
        name: Of the only input.
        pool: Samples of it; the search for each begins at the nearest one with another answer.
        count: How many are attacked.
        space: Of the input; no changed sample leaves its range.
    """
    answers = _scores(model, name, pool)
    own = answers.argmax(axis=1)
    begin = _other_answers(pool, own, count)
    found = [_Asked(model, name, pool[index], int(own[index])) for index in range(count)]
    with _toolbox() as (classifier_of, attack_of):
        for index, asked in enumerate(found):
            shape, classes = pool.shape[1:], answers.shape[1]
            classifier = classifier_of(asked.answer, shape, classes, (space.low, space.high))
            hop = attack_of(
                classifier, norm=np.inf, max_iter=ROUNDS, max_eval=QUESTIONS, init_eval=FIRST_QUESTIONS,
                init_size=STARTS, verbose=False,
            )  # fmt: skip
            # the toolbox's own search for a step can go on for ever where rounding moves the boundary
            with suppress(_Enough):
                hop.generate(x=pool[index : index + 1].copy(), x_adv_init=begin[index : index + 1].copy())
    span = space.high - space.low
    return Attacked(
        np.array([asked.distance for asked in found]) / span,
        float(np.mean([asked.questions for asked in found])),
        np.stack([asked.nearest for asked in found]),
    )


def _other_answers(pool: Array, classes: NDArray[np.intp], count: int) -> Array:
    """For each of the first samples the nearest one with another answer; itself where there is none."""
    begin = pool[:count].copy()
    flat = pool.reshape(len(pool), -1).astype(np.float64)
    for index in range(count):
        others = np.flatnonzero(classes != classes[index])
        if len(others):
            begin[index] = pool[others[np.abs(flat[others] - flat[index]).max(axis=1).argmin()]]
    return begin


def both(source: Model, artifact: Model, samples: Answered, space: Space, count: int) -> dict[str, Any]:
    """Attack source and artifact alike, as report.json has it.

    Args:
        samples: With one input; the first `count` are attacked.
    """
    ((name, pool),) = samples.feeds.items()
    count = min(count, len(pool))
    document: dict[str, Any] = {
        "method": "HopSkipJump (arXiv:1904.02144), largest change of a value",
        "samples": count,
        "small": SMALL,
    }
    for key, model, other in (("source", source, artifact), ("artifact", artifact, source)):
        found = attack(model, name, pool, count, space)
        theirs, own = (_scores(other, name, x).argmax(axis=1) for x in (found.adversarial, pool[:count]))
        document[key] = found.as_json(theirs == own)
    return document


def _scores(model: Model, name: str, x: Array) -> Array:
    first = next(iter(model.run({name: np.ascontiguousarray(x, np.float32)}).values()))
    return first.reshape(len(first), -1)


@contextmanager
def _toolbox() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """The toolbox's classifier and attack, kept from writing into the home folder and from its warnings.

    It draws from numpy's one global stream, which is seeded and put back.
    """
    home, state = os.environ.get("HOME"), np.random.get_state()
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks that are not installed
        logging.getLogger(_TOOLBOX).setLevel(logging.ERROR)  # "attack failed" is a result here
        os.environ["HOME"] = scratch  # its configuration would be made in ~/.art on import
        try:
            from art.attacks.evasion import HopSkipJump
            from art.estimators.classification import BlackBoxClassifier

            np.random.seed(0)
            yield BlackBoxClassifier, HopSkipJump
        finally:
            np.random.set_state(state)
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home
