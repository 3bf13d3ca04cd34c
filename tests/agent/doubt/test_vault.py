"""What is kept for review is sealed as RFC 8439 says, whichever library does it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edge_agent.doubt.vault import NONCE_BYTES, OVERHEAD_BYTES, Vault
from edge_agent.errors import ReviewDamaged

KEY = bytes(range(32))


@pytest.mark.parametrize("content", [b"", b"an input", bytes(70_000)], ids=len)
def test_another_library_opens_what_was_sealed_and_seals_what_is_opened(content: bytes) -> None:
    sealed = Vault(KEY).seal(content, "place")
    other = ChaCha20Poly1305(KEY)
    assert len(sealed) == len(content) + OVERHEAD_BYTES
    assert other.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"place") == content
    nonce = bytes(NONCE_BYTES)
    assert Vault(KEY).open(nonce + other.encrypt(nonce, content, b"place"), "place") == content


def test_one_changed_bit_another_place_and_another_key_are_refused() -> None:
    sealed = Vault(KEY).seal(b"an input", "place")
    for at in (0, NONCE_BYTES, len(sealed) - 1):
        broken = bytearray(sealed)
        broken[at] ^= 1
        with pytest.raises(ReviewDamaged, match="damaged"):
            Vault(KEY).open(bytes(broken), "place")
    with pytest.raises(ReviewDamaged, match="damaged"):
        Vault(KEY).open(sealed, "elsewhere")
    with pytest.raises(ReviewDamaged, match="damaged"):
        Vault(bytes(32)).open(sealed, "place")
    with pytest.raises(ReviewDamaged, match="27 bytes"):
        Vault(KEY).open(sealed[:27], "place")
