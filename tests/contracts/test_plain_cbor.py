"""Tags are found without obeying them, whatever they are hidden in, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_contracts import cose
from edge_contracts.errors import FormatInvalid
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


def slow_walk(content: bytes) -> bool:
    """RFC 8949 appendix C, one head after the other, without its recursion."""
    at = 0
    while at < len(content):
        major, info = content[at] >> 5, content[at] & 0x1F
        if major == 6 or info in (28, 29, 30):
            return True
        if info == 31 and major in (0, 1):
            return False  # no item: whatever comes behind it is for the decoder to find
        width = 1 << (info - 24) if 24 <= info <= 27 else 0
        argument = int.from_bytes(content[at + 1 : at + 1 + width], "big") if width else info
        at += 1 + width
        if major in (2, 3) and info != 31:
            at += argument
    return False


# bytes as they come seldom make a long row of items: heads that are likely to fit are drawn more often
HEADS = st.sampled_from([bytes([n]) for n in [*range(0x38, 0x80), *range(0x98, 0xDC), *range(0xF8, 0x100)]])


@given(st.lists(HEADS | st.binary(max_size=40), max_size=20).map(b"".join))
def test_whatever_the_bytes_are_it_says_what_a_slow_walk_says(content: bytes) -> None:
    assert has_tag(content) == slow_walk(content)


@pytest.mark.parametrize("behind", [b"", b"\x00", b"\x47" + bytes(71), bytes(8) + b"\xc1\x00"], ids=len)
def test_every_head_is_passed_over_as_a_slow_walk_does(behind: bytes) -> None:
    for head in (bytes([n]) for n in range(256)):
        for content in (head + behind, b"\x82\x18\xff" + head + behind + b"\xd8\x1c"):
            assert has_tag(content) == slow_walk(content), content


@pytest.mark.parametrize(("info", "width"), [(24, 1), (25, 2), (26, 4), (27, 8)])
@pytest.mark.parametrize("major", [0x40, 0x60])
def test_no_length_of_a_string_hides_a_tag_or_makes_one(major: int, info: int, width: int) -> None:
    for length in range(256 if width == 1 else 300):
        string = bytes([major + info]) + length.to_bytes(width, "big") + b"\xc4" * length
        assert not has_tag(string + b"\x00")
        assert has_tag(string + b"\xc4")


# what needs more of a decoder than its bytes are worth: depth is bounded by it, lengths by what has come
GREEDY = {
    "arrays in arrays": b"\x81" * 100_000,
    "arrays of no stated length": b"\x9f" * 100_000,
    "maps in maps": b"\xa1\x00" * 100_000,
    "an array of 2^63 items": b"\x9b\x7f" + b"\xff" * 7,
    "a map of 2^32 pairs": b"\xba" + b"\xff" * 4,
    "a text of 2^60 bytes": b"\x7b\x0f" + b"\xff" * 7,
    "bytes of 2^64": b"\x5b" + b"\xff" * 8,
    "bytes within bytes without end": b"\x5f" * 100_000,
}


@pytest.mark.parametrize("content", GREEDY.values(), ids=GREEDY)
def test_depth_and_lengths_that_nobody_could_hold_are_refused(content: bytes) -> None:
    for one in (content, b"\xa1\x61v" + content):
        with pytest.raises(FormatInvalid, match="a message is not CBOR"):
            cose.decode(one, "a message")


def test_what_is_tagged_is_refused_and_said_so() -> None:
    assert cose.decode(cbor2.dumps([1]), "a message") == [1]
    with pytest.raises(FormatInvalid, match="a message has a CBOR tag inside"):
        cose.decode(cbor2.dumps([cbor2.CBORTag(4, [1, 1])]), "a message")
