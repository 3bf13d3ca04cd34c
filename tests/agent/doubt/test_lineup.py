"""The lineup: who answers, what goes out marked as uncertain, and that every answer is counted once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import build
from lineup_models import SURE, SURE_X, UNSURE_X, ask, bundle, open_serving

from edge_agent.doubt.feedback import FeedbackBook
from edge_agent.doubt.lineup import Experiment, Lineup, Members, Settled
from edge_agent.doubt.routing import is_chosen
from edge_agent.errors import InferenceFailed, InputRefused
from edge_agent.inference.engine import Engine
from edge_agent.inference.request import Request
from edge_contracts.lineup import CONFIDENCE_BINS, LineupCounts
from edge_contracts.messages import Window


def counts_of(window: Window) -> LineupCounts:
    assert window.lineup is not None
    return window.lineup


def test_what_a_model_is_sure_of_goes_out_as_it_is(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    lineup = Lineup()
    settled = lineup.answer(active, ask(SURE_X))
    assert (settled.uncertain, settled.path) == (False, ("active:sure",))
    assert settled.confidence == pytest.approx((SURE,), rel=1e-5)
    counts = counts_of(lineup.cut(active))
    assert (counts.sure, counts.second, counts.uncertain) == (1, 0, 0)
    assert counts.confidence[int(SURE * CONFIDENCE_BINS)] == sum(counts.confidence) == 1


def test_what_it_is_unsure_of_goes_out_marked_when_it_is_alone(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    lineup = Lineup()
    settled = lineup.answer(active, ask(UNSURE_X))
    assert (settled.uncertain, settled.path) == (True, ("active:unsure",))
    counts = counts_of(lineup.cut(active))
    assert (counts.sure, counts.second, counts.uncertain) == (0, 0, 1)


def test_a_second_model_that_is_sure_answers_instead(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    settled = lineup.answer(active, ask(UNSURE_X))
    assert (settled.uncertain, settled.path) == (False, ("active:unsure", "second:sure"))
    assert settled.serving is second
    lineup.answer(active, ask(SURE_X))
    mine, (others,) = lineup.cut(active), lineup.cut_others()
    assert (counts_of(mine).sure, counts_of(mine).second, counts_of(mine).uncertain) == (1, 1, 0)
    assert (others.bundle, others.inferences) == (second.bundle, 1)
    assert (counts_of(others).role, counts_of(others).sure) == ("second", 1)


def test_a_second_model_is_not_asked_when_the_first_is_sure(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    lineup.answer(active, ask(SURE_X))
    assert lineup.cut_others()[0].inferences == 0


def test_when_both_are_unsure_the_answer_is_marked_and_is_the_second_ones(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.7, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    settled = lineup.answer(active, ask(UNSURE_X))
    assert (settled.uncertain, settled.path) == (True, ("active:unsure", "second:unsure"))
    assert settled.serving is second
    assert counts_of(lineup.cut(active)).uncertain == 1


def test_a_second_model_without_a_threshold_does_not_make_an_answer_good(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, build(version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    settled = lineup.answer(active, ask(UNSURE_X))
    assert (settled.uncertain, settled.path) == (True, ("active:unsure", "second:unrated"))
    assert settled.serving is active


def test_a_second_model_answers_for_one_whose_runtime_fails(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, build(version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    active.session.close()  # from here on its runtime refuses
    settled = lineup.answer(active, ask(SURE_X))
    assert (settled.uncertain, settled.path) == (False, ("active:failed", "second:unrated"))
    assert (counts_of(lineup.cut(active)).second, active.totals.failed) == (1, 1)
    second.session.close()
    with pytest.raises(InferenceFailed, match="both models failed"):
        lineup.answer(active, ask(SURE_X))


def test_a_second_model_that_fails_leaves_the_first_ones_answer_marked(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    second.session.close()
    settled = lineup.answer(active, ask(UNSURE_X))
    assert (settled.uncertain, settled.path) == (True, ("active:unsure", "second:failed"))
    assert settled.serving is active


def test_an_input_that_the_contract_refuses_is_nobodys_business(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    with pytest.raises(InputRefused):
        lineup.answer(active, ask(np.full((1, 4), np.nan, np.float32)))
    window, (other,) = lineup.cut(active), lineup.cut_others()
    assert (window.refused, other.refused) == ({"not-finite": 1}, {})


def test_one_unsure_sample_sends_the_whole_request_up_and_all_are_one_models(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    lineup.change(Members(second))
    settled = lineup.answer(active, ask(np.concatenate([SURE_X, UNSURE_X])))
    assert settled.serving is second
    assert settled.answer.samples == len(settled.confidence) == 2
    assert counts_of(lineup.cut(active)).second == 2


def test_an_experiment_divides_by_key_and_each_arm_has_its_windows(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.1))
    arm_b = open_serving(tmp_path, bundle(below=0.1, version="2"), "arm-b", "taste")
    lineup = Lineup()
    lineup.change(Members(experiment=Experiment("taste", arm_b, 250)))
    keys = [f"client-{number}" for number in range(200)]
    chosen = {key for key in keys if is_chosen("taste", key, 250)}
    for key in keys:
        for _ in range(2):
            settled = lineup.answer(active, ask(SURE_X, key=key, origin=f"{key}-{_}"))
            assert (settled.serving is arm_b) == (key in chosen)
            assert settled.path == (("arm-b:sure",) if key in chosen else ("active:sure",))
    (b,) = lineup.cut_others()
    a = lineup.cut(active)
    assert (a.inferences, b.inferences) == (400 - 2 * len(chosen), 2 * len(chosen))
    assert (counts_of(b).role, counts_of(b).experiment) == ("arm-b", "taste")
    assert 30 < len(chosen) < 70  # 50 expected; these keys and this hash give one number for ever


def test_without_a_routing_key_the_requests_own_name_decides_then_the_client(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.1))
    arm_b = open_serving(tmp_path, bundle(below=0.1, version="2"), "arm-b", "taste")
    lineup = Lineup()
    lineup.change(Members(experiment=Experiment("taste", arm_b, 500)))
    names = [f"n{number}" for number in range(40)]
    for name in names:
        expected = is_chosen("taste", name, 500)
        assert (lineup.answer(active, ask(origin=name)).serving is arm_b) == expected
        assert (lineup.answer(active, ask(client=name)).serving is arm_b) == expected


def test_a_member_that_leaves_hands_in_its_last_window_and_is_closed(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    lineup = Lineup()
    assert lineup.change(Members(second)) == []
    assert lineup.change(Members(second)) == []  # who stays is not disturbed
    lineup.answer(active, ask(UNSURE_X))
    (last,) = lineup.change(Members())
    assert (last.bundle, last.inferences) == (second.bundle, 1)
    with pytest.raises(InferenceFailed):
        second.session.infer({"x": SURE_X})
    assert lineup.answer(active, ask(UNSURE_X)).uncertain


def test_a_device_with_one_model_and_no_calibration_writes_windows_as_before(tmp_path: Path) -> None:
    active = open_serving(tmp_path, build())
    lineup = Lineup(FeedbackBook())
    settled = lineup.answer(active, ask())
    assert (settled.confidence, settled.uncertain, settled.path) == ((), False, ("active:unrated",))
    assert lineup.cut(active).lineup is None


def test_labels_are_in_the_window_of_the_model_that_answered(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.1))
    arm_b = open_serving(tmp_path, bundle(below=0.1, version="2"), "arm-b", "taste")
    book = FeedbackBook()
    lineup = Lineup(book)
    lineup.change(Members(experiment=Experiment("taste", arm_b, 500)))
    names = [f"n{number}" for number in range(20)]
    for name in names:
        lineup.answer(active, ask(SURE_X, origin=name))
    for number, name in enumerate(names):
        book.judge(name, "cat" if number % 4 else "dog")
    a, (b,) = counts_of(lineup.cut(active)), map(counts_of, lineup.cut_others())
    of_b = [number for number, name in enumerate(names) if is_chosen("taste", name, 500)]
    assert (b.labelled, b.correct) == (len(of_b), sum(number % 4 > 0 for number in of_b))
    assert (a.labelled + b.labelled, a.correct + b.correct) == (20, 15)
    assert a.rated_confidence == pytest.approx(SURE * a.labelled, rel=1e-4)


class Watcher:
    """Somebody who looks on."""

    def __init__(self) -> None:
        self.seen: list[tuple[Request, Settled]] = []

    def see(self, request: Request, settled: Settled) -> None:
        self.seen.append((request, settled))


def test_onlookers_see_what_went_out(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    lineup, watcher = Lineup(), Watcher()
    lineup.watch(watcher, None)
    settled = lineup.answer(active, ask(UNSURE_X))
    assert [seen for _, seen in watcher.seen] == [settled]


def test_the_engines_reply_says_how_far_to_trust_it(tmp_path: Path) -> None:
    active = open_serving(tmp_path, bundle(below=0.6))
    second = open_serving(tmp_path, bundle(below=0.3, version="2"), "second")
    engine = Engine()
    engine.switch(active)
    engine.start()
    try:
        alone = engine.submit(ask(UNSURE_X)).result(10)
        assert (alone.uncertain, alone.version, alone.path) == (True, "1", ("active:unsure",))
        engine.change(Members(second))
        helped = engine.submit(ask(UNSURE_X)).result(10)
        assert (helped.uncertain, helped.version, helped.bundle) == (False, "2", second.bundle)
        assert helped.confidence == pytest.approx(alone.confidence)
        (window,) = engine.cut_others()
        assert window.inferences == 1
        mine = engine.cut(trial=False)
        assert mine is not None
        assert counts_of(mine) == replace_counts(counts_of(mine), second=1, uncertain=1)
    finally:
        engine.stop()


def replace_counts(counts: LineupCounts, **fields: int) -> LineupCounts:
    return counts.model_copy(update=fields)


def test_members_are_replaced_as_a_whole(tmp_path: Path) -> None:
    second = open_serving(tmp_path, bundle(version="2"), "second")
    members = Members(second)
    assert members.servings == (second,)
    assert replace(members, second=None).servings == ()
