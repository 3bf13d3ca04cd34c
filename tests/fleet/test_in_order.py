"""Putting envelopes into order: none is lost, none is given twice, and nothing is waited for in vain."""

from __future__ import annotations

from typing import Any

from edge_fleet.in_order import MAX_HELD, in_order


def row(seq: int, device: str = "d", lost: tuple[int, int] | None = None) -> dict[str, Any]:
    records = [{"kind": "gap", "first_seq": lost[0], "last_seq": lost[1]}] if lost else []
    return {"device": device, "epoch": "e", "seq": seq, "records": records}


def numbers(*rows: dict[str, Any], from_the_start: bool = True) -> list[int]:
    return [found["seq"] for found in in_order(rows, from_the_start)]


def test_an_envelope_waits_for_those_before_it() -> None:
    assert numbers(row(0), row(2), row(3), row(1), row(4)) == [0, 1, 2, 3, 4]


def test_streams_do_not_wait_for_each_other() -> None:
    found = in_order([row(1, "slow"), row(0, "quick"), row(1, "quick"), row(0, "slow")], True)
    assert [(r["device"], r["seq"]) for r in found] == [
        ("quick", 0),
        ("quick", 1),
        ("slow", 0),
        ("slow", 1),
    ]


def test_what_a_device_owned_up_to_is_not_waited_for() -> None:
    rows = iter([row(0), row(5, lost=(1, 4)), row(6)])
    found = in_order(rows, True)
    assert [next(found)["seq"] for _ in range(2)] == [0, 5]
    assert next(rows)["seq"] == 6, "given on before the next one was asked for"


def test_a_device_cannot_speak_of_what_comes_after_its_word() -> None:
    assert numbers(row(1, lost=(0, 99)), row(3), row(2)) == [1, 2, 3]


def test_what_never_comes_is_given_up_and_what_is_left_comes_last() -> None:
    assert numbers(row(0), row(3), row(2)) == [0, 2, 3]
    waiting = [row(seq) for seq in range(1, MAX_HELD + 2)]
    assert numbers(*waiting, row(0), row(MAX_HELD + 2)) == [*range(1, MAX_HELD + 2), 0, MAX_HELD + 2]


def test_only_new_ones_begin_where_they_begin() -> None:
    assert numbers(row(7), row(9), row(8), from_the_start=False) == [7, 8, 9]


def test_a_gap_behind_one_that_was_waited_for_holds_nothing_up() -> None:
    rows = iter([row(0), row(3, lost=(2, 2)), row(1), row(4)])
    found = in_order(rows, True)
    assert [next(found)["seq"] for _ in range(3)] == [0, 1, 3]
    assert next(rows)["seq"] == 4, "given on before the next one was asked for"


def test_after_a_wait_that_was_given_up_the_next_one_is_not_waited_for() -> None:
    rows = iter([*(row(seq) for seq in range(1, MAX_HELD + 2)), row(MAX_HELD + 2), row(MAX_HELD + 3)])
    found = in_order(rows, True)
    assert [next(found)["seq"] for _ in range(MAX_HELD + 2)] == list(range(1, MAX_HELD + 3))
    assert next(rows)["seq"] == MAX_HELD + 3
