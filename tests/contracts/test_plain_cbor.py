"""Tags are found without obeying them, whatever they are hidden in, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contracts.plain_cbor import has_tag

NUMBERS = st.integers(-(2**64), 2**64 - 1) | st.floats(width=64) | st.floats(width=32)
LENGTHS = st.sampled_from([0, 1, 23, 24, 32, 255, 256, 65_535, 65_536])
# what looks most like a head of a tag: bytes from 0xc0 to 0xdb
STRINGS = LENGTHS.map(lambda n: b"\xc4" * n) | LENGTHS.map(lambda n: "Ä" * n)
TAGS = st.sampled_from([0, 2, 4, 18, 24, 30, 99, 255, 256, 65_536, 2**32])
LEAVES = NUMBERS | STRINGS | st.none() | st.booleans() | st.just(cbor2.CBORSimpleValue(99))


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=30), inner)
    )


@given(nested(LEAVES))
def test_what_has_no_tag_is_not_said_to_have_one(item: Any) -> None:
    assert not has_tag(cbor2.dumps(item))


@given(nested(LEAVES), nested(LEAVES), TAGS)
def test_a_tag_is_found_wherever_it_is(before: Any, after: Any, tag: int) -> None:
    tagged = cbor2.dumps([before, {"deep": [cbor2.CBORTag(tag, None), after]}])
    assert has_tag(tagged)
    assert has_tag(cbor2.dumps(cbor2.CBORTag(tag, None)))


@pytest.mark.parametrize("content", [b"\x59\xff\xff\x00", b"\x5b" + b"\xff" * 8, b"\x78\x05a", b"\x18", b""])
def test_what_is_cut_short_is_left_to_the_decoder(content: bytes) -> None:
    assert not has_tag(content)


@pytest.mark.parametrize("content", [b"\x9f\xc1\x00\xff", b"\x5f\x41\x00\xff\xd8\x1e", b"\x1c", b"\x00\xc2"])
def test_lengths_that_are_left_open_hide_none(content: bytes) -> None:
    assert has_tag(content)
