"""Answers that wait for labels are found again after a restart, and nobody else finds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lineup_models import SURE_X, ask, bundle, contrary, open_serving

from edge_agent.device.home import Home
from edge_agent.doubt.feedback import REMEMBERED, FeedbackBook
from edge_agent.doubt.lineup import Lineup
from edge_agent.doubt.remembered import ANSWER, PAGE
from edge_agent.doubt.shelf import PAGES, Shelf
from edge_agent.errors import FeedbackRefused
from edge_agent.inference.serving import Serving
from edge_contracts.lineup import LineupCounts


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def active(tmp_path: Path) -> Serving:
    return open_serving(tmp_path, bundle())


def answer(book: FeedbackBook, serving: Serving, *names: str) -> None:
    lineup = Lineup(book)
    for name in names:
        lineup.answer(serving, ask(SURE_X, origin=name))


def restarted(home: Home, book: FeedbackBook) -> FeedbackBook:
    Shelf(home).store(book)
    return Shelf(home).load()


def forgotten(book: FeedbackBook, name: str) -> bool:
    with pytest.raises(FeedbackRefused) as refused:
        book.judge(name, 0)
    return refused.value.code == "unknown-request"


def test_a_label_finds_its_answer_after_a_restart_and_counts(home: Home, active: Serving) -> None:
    book = FeedbackBook()
    answer(book, active, "a", "b", "c")
    after = restarted(home, book)
    right, wrong = after.judge("a", "cat"), after.judge("b", 1)
    assert (right.bundle, right.artifact, right.correct) == (active.bundle, "float32", True)
    assert right.confidence == pytest.approx(0.98, abs=0.01)
    assert not wrong.correct
    counts = after.cut(active.bundle, LineupCounts())
    assert (counts.labelled, counts.correct, counts.rated) == (2, 1, 2)
    answer(after, active, "d")
    assert after.judge("c", 0).correct
    assert after.judge("d", 0).correct


def test_a_label_for_a_model_that_is_not_open_any_more_comes_in_a_window_of_its_own(
    home: Home, active: Serving
) -> None:
    book = FeedbackBook()
    answer(book, active, "a")
    after = restarted(home, book)
    after.judge("a", "cat")
    (window,) = after.late(5, frozenset())
    assert (window.bundle, window.runtime) == (active.bundle, active.session.runtime)
    assert window.lineup is not None
    assert window.lineup.labelled == 1


def test_a_label_counts_once_over_restarts_too(home: Home, active: Serving) -> None:
    book = FeedbackBook()
    answer(book, active, "a", "b")
    first = restarted(home, book)
    first.judge("a", 0)
    second = restarted(home, first)
    assert forgotten(second, "a")
    assert second.judge("b", 0).correct


def test_a_name_that_was_used_before_and_after_a_restart_means_its_latest_request(
    home: Home, active: Serving, tmp_path: Path
) -> None:
    book = FeedbackBook()
    answer(book, active, "same")
    after = restarted(home, book)
    other = open_serving(tmp_path, contrary())
    answer(after, other, "same")
    after = restarted(home, after)
    assert after.judge("same", 0).bundle == other.bundle
    assert after.judge("same", 0).bundle == active.bundle


def test_what_is_stored_is_bounded_and_the_oldest_is_forgotten(home: Home, active: Serving) -> None:
    book = FeedbackBook()
    settled = active.infer({"x": SURE_X})
    for n in range(REMEMBERED + PAGE + 5):
        book.remember(f"r{n}", active, settled, (0.5,))
    after = restarted(home, book)
    files = sorted((home.folder / "answers").iterdir())
    assert len(files) == PAGES
    assert max(path.stat().st_size for path in files) < PAGE * ANSWER.itemsize + 1000
    assert forgotten(after, f"r{PAGE + 4}")
    assert after.judge(f"r{PAGE + 5}", 0).correct
    assert after.judge(f"r{REMEMBERED + PAGE + 4}", 0).correct
    answer(after, active, "next")
    assert after.judge("next", 0).correct


def test_nothing_is_written_while_answers_are_remembered_and_one_page_a_call_when_it_is_time(
    home: Home, active: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def counted(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", counted)
    book, shelf = FeedbackBook(), Shelf(home, every_s=60.0)
    settled = active.infer({"x": SURE_X})
    for n in range(2 * PAGE):
        book.remember(f"r{n}", active, settled, ())
    assert not synced
    folder = home.folder / "answers"
    counts = []
    for now_s in (0.0, 0.25, 0.5, 59.0, 60.0):
        shelf.tick(now_s, book, keeps=True)
        counts.append(len(list(folder.iterdir())))
    assert counts == [1, 2, 2, 2, 2]
    before = len(synced)
    answer(book, active, "x")
    shelf.tick(60.25, book, keeps=True)
    assert len(synced) == before, "not before its time has come"
    shelf.tick(120.0, book, keeps=True)
    assert len(synced) > before
    assert Shelf(home).load().judge("x", 0).correct


def test_names_answers_and_models_lie_there_sealed(home: Home, active: Serving) -> None:
    book = FeedbackBook()
    answer(book, active, "patient-4711")
    Shelf(home).store(book)
    (path,) = (home.folder / "answers").iterdir()
    content = path.read_bytes()
    for text in (b"patient", active.bundle.encode(), b"cat", book.salt, book.salt.hex().encode()):
        assert text not in content
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["flipped", "cut", "moved", "another key", "no key", "not ours"])
def test_a_page_that_cannot_be_read_costs_its_own_answers_only(
    home: Home, active: Serving, what: str
) -> None:
    book = FeedbackBook()
    settled = active.infer({"x": SURE_X})
    for n in range(PAGE + 1):
        book.remember(f"r{n}", active, settled, ())
    Shelf(home).store(book)
    first, second = sorted((home.folder / "answers").iterdir())
    content = bytearray(first.read_bytes())
    if what == "flipped":
        content[100] ^= 1
        first.write_bytes(content)
    elif what == "cut":
        first.write_bytes(content[:20])
    elif what == "moved":
        first.write_bytes(second.read_bytes())
    elif what == "not ours":
        first.rename(first.with_name("xx.answers"))
    else:
        (home.folder / "review.key").unlink()
        if what == "another key":
            (home.folder / "review.key").touch(0o600)
            (home.folder / "review.key").write_bytes(bytes(32))
    after = Shelf(home).load()
    assert forgotten(after, "r0")
    if "key" in what:
        assert forgotten(after, f"r{PAGE}")
    else:
        assert after.judge(f"r{PAGE}", 0).correct
    answer(after, active, "next")
    assert restarted(home, after).judge("next", 0).correct


def test_review_clear_forgets_them_also_in_the_daemon_that_runs(home: Home, active: Serving) -> None:
    book, shelf = FeedbackBook(), Shelf(home, every_s=1.0)
    answer(book, active, "a")
    shelf.tick(0.0, book, keeps=True)
    (home.folder / "review.key").unlink()  # what the command does first
    Shelf(home).clear()
    assert not list((home.folder / "answers").iterdir())
    shelf.tick(2.0, book, keeps=True)
    assert forgotten(book, "a")
    answer(book, active, "b")
    shelf.tick(4.0, book, keeps=True)
    after = Shelf(home).load()
    assert forgotten(after, "a")
    assert after.judge("b", 0).correct


def test_where_nothing_may_be_kept_nothing_is_stored_until_it_may(home: Home, active: Serving) -> None:
    book, shelf = FeedbackBook(), Shelf(home, every_s=1.0)
    answer(book, active, "a")
    shelf.tick(0.0, book, keeps=True)
    shelf.tick(2.0, book, keeps=False)
    answer(book, active, "b")
    shelf.tick(4.0, book, keeps=False)
    shelf.store(book)
    assert not list((home.folder / "answers").iterdir())
    shelf.tick(6.0, book, keeps=True)
    after = Shelf(home).load()
    assert after.judge("a", 0).correct
    assert after.judge("b", 0).correct


def test_a_disk_that_cannot_be_written_costs_nothing_but_the_storing(home: Home, active: Serving) -> None:
    book, shelf = FeedbackBook(), Shelf(home, every_s=1.0)
    answer(book, active, "a")
    in_the_way = home.folder / "answers"
    in_the_way.touch()
    shelf.tick(0.0, book, keeps=True)
    shelf.store(book)
    in_the_way.unlink()
    shelf.tick(2.0, book, keeps=True)
    assert Shelf(home).load().judge("a", 0).correct
    assert book.judge("a", 0).correct
