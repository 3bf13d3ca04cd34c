"""PEM of Ed25519 keys, by the examples of RFC 8410."""

from __future__ import annotations

import pytest

from edge_contracts import pem

# section 10.1 and 10.3
PUBLIC = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""
PRIVATE = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RAW_PUBLIC = bytes.fromhex("19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1")
SEED = bytes.fromhex("d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842")


def test_the_examples_of_the_rfc_are_read_and_written() -> None:
    assert pem.from_pem(PUBLIC, pem.PUBLIC) == RAW_PUBLIC
    assert pem.from_pem(PRIVATE, pem.PRIVATE) == SEED
    assert pem.to_pem(RAW_PUBLIC, pem.PUBLIC) == PUBLIC
    assert pem.to_pem(SEED, pem.PRIVATE) == PRIVATE


def test_line_ends_of_other_systems_and_blanks_around_are_read() -> None:
    assert pem.from_pem(b"\n" + PRIVATE.replace(b"\n", b"\r\n") + b"\n", pem.PRIVATE) == SEED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        PUBLIC,
        PRIVATE[:-10],
        PRIVATE.replace(b"MC4C", b"MC4D"),
        PRIVATE.replace(b"MC4C", b"MC4\xff"),
        PRIVATE.replace(b"VhC", b""),
        PRIVATE.replace(b"VhC", b"VhCAAAA"),
    ],
    ids=["nothing", "a line", "the other kind", "cut off", "another prefix", "no base64", "short", "long"],
)
def test_anything_else_is_not_claimed_to_be_a_key(content: bytes) -> None:
    assert pem.from_pem(content, pem.PRIVATE) is None


def test_a_key_of_another_length_is_not_written() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        pem.to_pem(bytes(31), pem.PUBLIC)
