"""Keys: read, written and named as other tools do it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import samples
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_contracts.errors import KeyInvalid, SignatureInvalid
from edge_contracts.keys import PrivateKey, PublicKey, read_private, read_public, write_private


def test_signatures_are_those_of_rfc_8032() -> None:
    # RFC 8032, section 7.1, test 1: the empty message
    assert samples.KEY.public.raw.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert samples.KEY.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"
    )


def test_a_written_key_reads_back_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    write_private(samples.KEY, tmp_path / "private.pem")
    assert read_private(tmp_path / "private.pem").public == samples.KEY.public
    assert stat.S_IMODE((tmp_path / "private.pem").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_private(samples.KEY, tmp_path / "private.pem")
    with pytest.raises(KeyInvalid, match="not overwritten"):
        write_private(PrivateKey.generate(), tmp_path / "private.pem")
    assert read_private(tmp_path / "private.pem").public == samples.KEY.public


def test_a_public_key_reads_back(tmp_path: Path) -> None:
    (tmp_path / "public.pem").write_bytes(samples.KEY.public.pem)
    assert read_public(tmp_path / "public.pem") == samples.KEY.public
    assert PublicKey.from_base64(samples.KEY.public.base64) == samples.KEY.public


def test_a_signature_of_other_content_does_not_verify() -> None:
    with pytest.raises(SignatureInvalid):
        samples.KEY.public.verify(samples.KEY.sign(b"one"), b"two")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)], ids=len)
def test_bytes_that_are_no_signature_do_not_verify(signature: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        samples.KEY.public.verify(signature, b"")


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 40], ids=len)
def test_another_library_makes_and_takes_the_same_signatures(content: bytes) -> None:
    key = PrivateKey.generate()
    other = serialization.load_pem_private_key(key.pem, password=None)
    assert isinstance(other, Ed25519PrivateKey)
    assert key.sign(content) == other.sign(content)
    other.public_key().verify(key.sign(content), content)
    key.public.verify(other.sign(content), content)


def test_pem_is_written_as_another_library_writes_it() -> None:
    key = Ed25519PrivateKey.generate()
    ours = PrivateKey.from_seed(key.private_bytes_raw())
    assert ours.pem == key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert ours.public.pem == key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_pem_with_words_around_it_is_read_by_the_library_that_knows_every_form(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"Bag Attributes: none\n" + samples.KEY.pem)
    (tmp_path / "public.pem").write_bytes(b"the publisher's\n" + samples.KEY.public.pem + b"of 2026\n")
    assert read_private(tmp_path / "key.pem").public == samples.KEY.public
    assert read_public(tmp_path / "public.pem") == samples.KEY.public


def test_a_private_key_does_not_show_itself() -> None:
    assert samples.KEY.pem.decode().splitlines()[1] not in repr(samples.KEY)


def test_files_that_are_no_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(KeyInvalid, match="No such file"):
        read_public(path)
    for content in (b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(KeyInvalid):
            read_public(path)
        with pytest.raises(KeyInvalid):
            read_private(path)


def test_a_private_key_given_for_a_public_one_is_said_so(tmp_path: Path) -> None:
    write_private(samples.KEY, tmp_path / "private.pem")
    with pytest.raises(KeyInvalid, match=r"public\.pem"):
        read_public(tmp_path / "private.pem")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "ec.pem"
    path.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(KeyInvalid, match="expected Ed25519"):
        read_private(path)


@pytest.mark.parametrize("text", ["", "!!!", "AAAA"])
def test_text_that_is_no_raw_key_is_refused(text: str) -> None:
    with pytest.raises(KeyInvalid):
        PublicKey.from_base64(text)
