"""Labels that come back: each counts once, for the model that answered, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lineup_models import SURE, SURE_X, UNSURE_X, ask, bundle, open_serving

from edge_agent.doubt.feedback import MAX_MODELS, FeedbackBook, class_of
from edge_agent.doubt.lineup import Lineup
from edge_agent.errors import FeedbackRefused
from edge_agent.inference.serving import Serving
from edge_contracts.lineup import LineupCounts


def answer(book: FeedbackBook, serving: Serving, *names: str) -> None:
    lineup = Lineup(book)
    for name in names:
        lineup.answer(serving, ask(SURE_X, origin=name))


def test_a_label_by_name_by_number_and_by_digits(tmp_path: Path) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle())
    answer(book, active, "a", "b", "c")
    assert book.judge("a", "cat").correct  # SURE_X is a cat
    assert not book.judge("b", 1).correct
    assert book.judge("c", "0").correct
    counts = book.cut(active.bundle, LineupCounts())
    assert (counts.labelled, counts.correct, counts.rated, counts.rated_correct) == (3, 2, 3, 2)
    assert counts.rated_confidence == pytest.approx(3 * SURE, rel=1e-5)
    assert book.cut(active.bundle, LineupCounts()).labelled == 0


@pytest.mark.parametrize("label", ["wolf", 3, -1, "-1", "1.5", ""])
def test_a_label_that_is_no_class_is_refused_and_the_answer_still_waits(
    tmp_path: Path, label: str | int
) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle())
    answer(book, active, "a")
    with pytest.raises(FeedbackRefused, match="is no class of the model; it has cat, dog, fox") as refused:
        book.judge("a", label)
    assert refused.value.code == "bad-label"
    assert book.judge("a", "dog").bundle == active.bundle


def test_a_label_counts_once(tmp_path: Path) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle())
    answer(book, active, "a")
    book.judge("a", 0)
    with pytest.raises(FeedbackRefused) as refused:
        book.judge("a", 0)
    assert refused.value.code == "unknown-request"


def test_the_oldest_answers_are_forgotten_and_memory_does_not_grow(tmp_path: Path) -> None:
    book, active = FeedbackBook(size=4), open_serving(tmp_path, bundle())
    answer(book, active, *"abcdef")
    for name in "ab":
        with pytest.raises(FeedbackRefused, match="too long ago"):
            book.judge(name, 0)
    for name in "cdef":
        assert book.judge(name, 0).correct


def test_a_name_that_was_used_twice_means_its_latest_request(tmp_path: Path) -> None:
    book = FeedbackBook(size=4)
    first = open_serving(tmp_path, bundle())
    second = open_serving(tmp_path, bundle(version="2"))
    for serving in (second, first, first, second, first):  # the ring has come round
        answer(book, serving, "same")
    assert book.judge("same", 0).bundle == first.bundle
    assert book.judge("same", 0).bundle == second.bundle


def test_labels_of_a_model_that_is_gone_come_in_a_window_without_inferences(tmp_path: Path) -> None:
    book = FeedbackBook()
    old, new = open_serving(tmp_path, bundle()), open_serving(tmp_path, bundle(version="2"))
    answer(book, old, "a")
    answer(book, new, "b")
    book.judge("a", 0)
    book.judge("b", 0)
    (late,) = book.late(1000, frozenset({new.bundle}))
    assert (late.bundle, late.inferences) == (old.bundle, 0)
    assert late.lineup is not None
    assert (late.lineup.labelled, late.lineup.correct) == (1, 1)
    assert book.late(1000, frozenset({new.bundle})) == []


def test_more_models_than_are_remembered_push_out_the_oldest_ones_answers(tmp_path: Path) -> None:
    book = FeedbackBook()
    for number in range(MAX_MODELS + 1):
        answer(book, open_serving(tmp_path, bundle(version=str(number))), f"of-{number}")
    with pytest.raises(FeedbackRefused):
        book.judge("of-0", 0)
    for number in range(1, MAX_MODELS + 1):
        assert book.judge(f"of-{number}", 0).correct


def test_answers_without_a_calibration_are_counted_but_not_rated(tmp_path: Path) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle(confidence={}))
    answer(book, active, "a")
    book.judge("a", 0)
    counts = book.cut(active.bundle, LineupCounts())
    assert (counts.labelled, counts.rated, counts.rated_confidence) == (1, 0, 0.0)


def test_a_confidence_that_lies_is_told_once_and_marked_in_every_window_after(tmp_path: Path) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle())
    names = [f"n{number}" for number in range(60)]
    answer(book, active, *names)
    for name in names[:30]:
        book.judge(name, 0)  # as sure as it says
    assert (book.take_accused(), book.cut(active.bundle, LineupCounts()).overstated) == ([], False)
    for name in names[30:]:
        book.judge(name, 1)  # sure, and wrong
    assert book.take_accused() == [active.bundle]
    assert book.take_accused() == []
    assert book.cut(active.bundle, LineupCounts()).overstated


def test_batches_and_nameless_requests_wait_for_no_label(tmp_path: Path) -> None:
    book, active = FeedbackBook(), open_serving(tmp_path, bundle())
    lineup = Lineup(book)
    lineup.answer(active, ask(np.concatenate([SURE_X, UNSURE_X]), origin="two"))
    lineup.answer(active, ask(SURE_X))
    for name in ("two", ""):
        with pytest.raises(FeedbackRefused):
            book.judge(name, 0)


def test_classes_without_names_are_numbers() -> None:
    assert class_of("7", (), 10) == 7
    with pytest.raises(FeedbackRefused, match="numbers below 10"):
        class_of("ten", (), 10)
