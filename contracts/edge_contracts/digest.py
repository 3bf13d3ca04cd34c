"""Digests: the only way to name content. Always `sha256:` and 64 lower-case hex digits."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from edge_contracts.model import matching

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, matching(DIGEST_PATTERN)]

_CHUNK_BYTES = 1 << 20


def digest_of(content: bytes) -> str:
    """Digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of_file(path: Path) -> str:
    """Digest of a file, read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return "sha256:" + hasher.hexdigest()


def short(digest: str) -> str:
    """The first 12 hex digits, for people; never for comparing."""
    return digest.removeprefix("sha256:")[:12]
