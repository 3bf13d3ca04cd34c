"""Whether CBOR has any tag in it (RFC 8949 section 3.4), found before a decoder makes something of one.

No message has one inside its envelope. A decoder that knows tags obeys them before anybody has verified a
signature: a decimal fraction of a quarter of a megabyte takes it half a minute, and one that is out of
bounds an error that nobody expects. Heads and strings follow one another flatly whatever is inside what,
so that one regular expression passes over them, as fast as C does it: a fifth of what decoding takes
(`benchmarks/ingest_rate.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def has_tag(content: bytes) -> bool:
    """Whether there is a tag, or what is no head of an item at all.

    Strings that are cut short count as none: that is for the decoder to find.
    """
    at, end = 0, len(content)
    while at < end:
        found = _ITEMS.match(content, at)
        if found is not None:
            at = found.end()
            if at == end:
                return False
        width = _LONG.get(content[at])
        if width is None:
            # a string or a number that ends after the end is no tag
            return content[at] >> 5 == 6 or content[at] & 0x1F in (28, 29, 30)
        at += 1 + width + int.from_bytes(content[at + 1 : at + 1 + width], "big")
    return False


def _items() -> re.Pattern[bytes]:
    """Any number of items and heads of containers, without strings of more than 71 bytes, a digest's length.

    What is common stands first, and every branch begins with the one byte that it is for: re goes past such
    a branch without entering it, where a class of bytes costs it three times as much.
    """
    alone = rb"[\x00-\x17\x20-\x37\x40\x60\x80-\x97\xa0-\xb7\xe0-\xf7\x5f\x7f\x9f\xbf\xff]*+"
    common = [(0x18, 1), (0x19, 2), (0x1B, 8), (0xFB, 8), (0x1A, 4)]  # numbers of ours, by what is behind
    names = [*range(4, 16), *range(1, 4), *range(16, 24)]  # fields' names have 4 to 15 letters mostly
    texts = [(0x60 + n, n) for n in names]
    others = [(major + 24 + k, 1 << k) for k in range(4) for major in (0x00, 0x20, 0x80, 0xA0, 0xE0)]
    strings = [(0x40 + n, n) for n in names]
    digests_first = [71, 64, 32, *range(71)]
    long = rb"(?:[\x58\x78]|[\x59\x79]\x00|[\x5a\x7a]\x00{3}|[\x5b\x7b]\x00{7})(?:%s)"
    behind = [*_branches([*common, *texts]), long % b"|".join(_branches((n, n) for n in digests_first))]
    behind += _branches([*strings, *(one for one in others if one not in common)])
    return re.compile(b"(?s:%s(?:%s))*+%s" % (alone, b"|".join(behind), alone))


def _branches(heads: Iterable[tuple[int, int]]) -> list[bytes]:
    """A head of one byte and how many come behind it."""
    return [b"\\x%02x.{%d}" % head for head in heads]


# strings by the width of their length
_LONG = {0x58: 1, 0x78: 1, 0x59: 2, 0x79: 2, 0x5A: 4, 0x7A: 4, 0x5B: 8, 0x7B: 8}
_ITEMS = _items()
