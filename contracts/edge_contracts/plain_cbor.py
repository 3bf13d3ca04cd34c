"""Whether CBOR has any tag in it (RFC 8949 section 3.4), found before a decoder makes something of one.

No message has one inside its envelope. A decoder that knows tags obeys them before anybody has verified a
signature: a decimal fraction of a quarter of a megabyte takes it half a minute, and one that is out of
bounds an error that nobody expects. Heads and strings follow one another flatly whatever is inside what,
so that one regular expression passes over them, as fast as C does it.
"""

from __future__ import annotations

import re


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
    """Any number of items and heads of containers, without strings of more than 255 bytes."""
    alone = rb"[\x00-\x17\x20-\x37\x40\x60\x80-\x97\xa0-\xb7\xe0-\xf7\x5f\x7f\x9f\xbf\xff]++"
    short = [b"[\\x%02x\\x%02x].{%d}" % (0x40 + n, 0x60 + n, n) for n in range(1, 24)]
    numbers = [b"[\\x%02x\\x%02x\\x%02x\\x%02x\\x%02x].{%d}" % (*_heads(k), 1 << k) for k in range(4)]
    byte_long = b"[\\x58\\x78](?:%s)" % b"|".join(b"\\x%02x.{%d}" % (n, n) for n in range(256))
    return re.compile(b"(?s:%s)*+" % b"|".join([alone, *short, *numbers, byte_long]))


def _heads(width: int) -> tuple[int, int, int, int, int]:
    """Heads of numbers, of long containers and of floats with 1, 2, 4 or 8 bytes behind them."""
    return tuple(major + 24 + width for major in (0x00, 0x20, 0x80, 0xA0, 0xE0))  # type: ignore[return-value]


_LONG = {0x59: 2, 0x79: 2, 0x5A: 4, 0x7A: 4, 0x5B: 8, 0x7B: 8}  # strings by the width of their length
_ITEMS = _items()
