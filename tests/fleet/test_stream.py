from __future__ import annotations

from edge_contracts.messages import CHAIN_START
from edge_fleet.stream import Link, Position, Standing, advance, judge


def chain(seq: int) -> bytes:
    return seq.to_bytes(16, "big")


def link(seq: int) -> Link:
    return Link(chain(seq - 1) if seq else CHAIN_START, chain(seq))


def stored(*seqs: int) -> list[tuple[int, bytes]]:
    return [(seq, chain(seq)) for seq in seqs]


def test_the_first_envelope_of_a_stream_starts_the_chain() -> None:
    assert judge(0, Link(CHAIN_START, b"x" * 16), None, None, None) is Standing.NEW
    assert judge(0, Link(b"p" * 16, b"x" * 16), None, None, None) is Standing.CHAIN_BROKEN


def test_the_same_bytes_again_are_a_duplicate() -> None:
    assert judge(3, link(3), link(3), link(2), None) is Standing.DUPLICATE


def test_other_bytes_under_a_taken_number_are_a_fork() -> None:
    assert judge(3, Link(chain(2), b"x" * 16), link(3), link(2), None) is Standing.FORK
    assert judge(3, Link(b"p" * 16, chain(3)), link(3), link(2), None) is Standing.FORK


def test_an_envelope_must_follow_from_the_one_before_it() -> None:
    assert judge(3, link(3), None, link(2), None) is Standing.NEW
    assert judge(3, Link(b"p" * 16, chain(3)), None, link(2), None) is Standing.CHAIN_BROKEN


def test_an_envelope_must_lead_to_the_one_after_it() -> None:
    assert judge(3, link(3), None, None, link(4)) is Standing.NEW
    assert judge(3, Link(chain(2), b"x" * 16), None, None, link(4)) is Standing.CHAIN_BROKEN


def test_what_has_no_stored_neighbours_is_believed() -> None:
    assert judge(30, Link(b"p" * 16, chain(30)), None, None, None) is Standing.NEW


def test_a_position_moves_to_the_last_of_an_unbroken_run() -> None:
    assert advance(Position(), stored(0, 1, 2), []) == Position(2, chain(2))
    assert advance(Position(4, chain(4)), stored(5, 6), []) == Position(6, chain(6))


def test_a_position_stops_at_a_hole() -> None:
    assert advance(Position(), stored(0, 1, 3, 4), []) == Position(1, chain(1))
    assert advance(Position(), stored(1, 2), []) == Position()


def test_a_gap_that_was_owned_up_to_closes_a_hole() -> None:
    assert advance(Position(), stored(0, 1, 5), [(2, 4)]) == Position(5, chain(5))


def test_gaps_may_overlap_and_come_in_any_order() -> None:
    assert advance(Position(), stored(0, 10), [(4, 9), (1, 2), (2, 5)]) == Position(10, chain(10))


def test_a_gap_that_is_too_short_leaves_the_hole() -> None:
    assert advance(Position(), stored(0, 5), [(1, 3)]) == Position(0, chain(0))
    assert advance(Position(), stored(0, 5), [(2, 4)]) == Position(0, chain(0))


def test_a_position_never_rests_on_a_lost_number() -> None:
    """Its chain value is not known, and the ack must name it."""
    assert advance(Position(), stored(0), [(1, 4)]) == Position(0, chain(0))


def test_an_envelope_inside_a_gap_counts_as_stored() -> None:
    assert advance(Position(), stored(0, 2, 5), [(1, 4)]) == Position(5, chain(5))


def test_a_gap_that_ends_before_it_begins_closes_nothing() -> None:
    assert advance(Position(), stored(0, 2), [(1, 0), (1, -1)]) == Position(0, chain(0))
