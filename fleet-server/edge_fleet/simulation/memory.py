"""What a simulated device keeps between two runs, and the folder with all of them.

    identities.jsonl   who they are: key, name, what the server told at the enrolment; only added to
    memory.jsonl       where each stands: numbers, chain, what is not acknowledged, what it runs

The memory is taken out of the folder when a run begins and put back when it ends in order. After a run that
was killed there is none, and the devices begin anew under a new epoch, as devices do whose disk was lost:
with an old copy they would number other envelopes alike, which is the very thing that a fork is.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import ActiveModel, Assignment, Progress
from edge_contracts.withdrawal import Withdrawn
from edge_fleet.errors import RequestInvalid
from edge_fleet.keys import write_secret
from edge_fleet.model import Epoch, Frozen, Identifier, later, parse_json

IDENTITIES, MEMORY, TAG = "identities.jsonl", "memory.jsonl", "tag"


class Identity(Frozen):
    """A simulated device that is enrolled.

    Args:
        kind: Of `kinds.KINDS`.
        seed: Of its key: 32 bytes, base64.
    """

    kind: Identifier
    seed: str
    profile: tuple[Identifier, ...]
    enrolled: EnrolAnswer

    @property
    def device(self) -> str:
        """Its name."""
        return self.enrolled.device

    @property
    def key(self) -> PrivateKey:
        """Its key."""
        return PrivateKey.from_seed(base64.b64decode(self.seed))


class Memory(Frozen):
    """Where a device stands.

    Args:
        prev: Chain value of the last envelope, base64.
        unacknowledged: Envelopes by number, base64.
        assignment: The last one that it took.
    """

    device: Identifier
    epoch: Epoch
    next_seq: int = Field(ge=0)
    prev: str
    unacknowledged: Mapping[int, str] = Field(default_factory=dict)
    counter: int = Field(default=0, ge=0)
    assignment: Assignment | None = None
    progress: Progress | None = None
    active: ActiveModel | None = None
    last_good: ActiveModel | None = None
    withdrawn: Withdrawn | None = later(None)


@dataclass(frozen=True)
class Kept:
    """A device and what it remembers; None when it begins anew."""

    identity: Identity
    memory: Memory | None = None


T = TypeVar("T", bound=Frozen)


class StateFolder:
    """The folder of one simulated fleet; it holds private keys."""

    def __init__(self, path: Path) -> None:
        """Name a folder; it is made when it is not there.

        Raises:
            RequestInvalid: It cannot be made.
        """
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RequestInvalid(f"cannot make {path}: {error.strerror}") from None

    def tag(self) -> str:
        """Four letters that the names of its devices have: names are never used twice at a server."""
        path = self._path / TAG
        if not path.exists():
            write_secret(path, secrets.token_hex(2).encode())
        return path.read_text()

    def identities(self) -> list[Identity]:
        """All that are enrolled, in that order."""
        return self._read(Identity, IDENTITIES)

    def add(self, identities: Iterable[Identity]) -> None:
        """Keep more of them."""
        path = self._path / IDENTITIES
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(_lines(identities))
            stream.flush()
            os.fsync(stream.fileno())

    def take(self) -> dict[str, Memory]:
        """What the devices remember, by name; it is out of the folder from now on."""
        found = {one.device: one for one in self._read(Memory, MEMORY)}
        (self._path / MEMORY).unlink(missing_ok=True)
        return found

    def put(self, memories: Iterable[Memory]) -> None:
        """Keep what they remember for the next run."""
        write_secret(self._path / MEMORY, _lines(memories))

    def _read(self, kind: type[T], name: str) -> list[T]:
        path = self._path / name
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RequestInvalid(f"cannot read {path}: {error.strerror}") from None
        # a last line without an end was being written when the machine went down
        try:
            return [parse_json(kind, line, str(path)) for line in lines[:-1]]
        except ContractError as error:
            raise RequestInvalid(f"{error}; give --state another folder") from None


def _lines(items: Iterable[Frozen]) -> bytes:
    return b"".join(one.model_dump_json().encode() + b"\n" for one in items)
