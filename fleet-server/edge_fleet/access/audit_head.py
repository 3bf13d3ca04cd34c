"""The signed head of the audit log: which row was the last one, in the director's words.

The hashes alone can be computed anew by whoever can write the database, and say nothing of rows cut off
at the end. The head lies in the server's home, beside the database and not in it, and can be kept
anywhere: every export carries it.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from edge_contracts.errors import ContractError, SignatureInvalid, one_line
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.model import canonical_json
from edge_fleet.audit import record
from edge_fleet.errors import AuditBroken, HomeInvalid
from edge_fleet.keys import write_secret
from edge_fleet.model import Frozen, parse_json
from edge_fleet.schema import audit
from edge_fleet.services import Services

log = logging.getLogger(__name__)

FORMAT = "edgefleet.audit-head/1"
EVERY_S = 1.0  # rows younger than this may be cut off unseen


class SignedHead(Frozen):
    """The last row at some time, signed.

    Args:
        at_ms: When it was signed.
        signature: Ed25519 over FORMAT, a newline and the canonical JSON of the other fields; base64.
    """

    format: Literal["edgefleet.audit-head/1"] = "edgefleet.audit-head/1"
    row: Annotated[int, Field(ge=1)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    at_ms: int
    key_id: Annotated[str, Field(max_length=32)]
    signature: Annotated[str, Field(max_length=100)] = ""

    def verify(self, *keys: PublicKey) -> None:
        """Check the signature.

        Args:
            keys: One of them must have signed: the director's key changes.

        Raises:
            SignatureInvalid: None of them has.
        """
        named = [key for key in keys if key.key_id == self.key_id]
        if not named:
            raise SignatureInvalid(f"the audit head is signed by key {self.key_id}, not by the server's")
        try:
            named[0].verify(base64.b64decode(self.signature, validate=True), _signed(self))
        except ValueError:
            raise SignatureInvalid("the signature of the audit head is not base64") from None


def sign_head(key: PrivateKey, row: int, digest: str, now_ms: int) -> SignedHead:
    """Sign a head."""
    head = SignedHead(row=row, hash=digest, at_ms=now_ms, key_id=key.public.key_id)
    return head.model_copy(update={"signature": base64.b64encode(key.sign(_signed(head))).decode()})


def _signed(head: SignedHead) -> bytes:
    content = head.model_dump(mode="json", exclude={"signature"})
    return FORMAT.encode() + b"\n" + canonical_json(content)


def read_head(path: Path) -> SignedHead | None:
    """The head in a file; None when there is none yet.

    Raises:
        HomeInvalid: The file cannot be read, or is damaged.
    """
    try:
        return parse_json(SignedHead, path.read_bytes(), str(path), FORMAT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HomeInvalid(f"cannot read {path}: {error.strerror}") from None
    except ContractError as error:
        raise HomeInvalid(str(error)) from None


def seal(connection: Connection, key: PrivateKey, path: Path, now_ms: int) -> SignedHead | None:
    """Sign the last row if it is another than the one that was signed last.

    Raises:
        AuditBroken: The row that was signed last is not there any more. It stays the signed one.
    """
    before = read_head(path)
    last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    if before is not None:
        if last is not None and (last.id, last.hash) == (before.row, before.hash):
            return before
        there = connection.execute(select(audit.c.hash).where(audit.c.id == before.row)).scalar()
        if there != before.hash:
            raise AuditBroken(
                f"audit row {before.row} was signed and is {'gone' if there is None else 'another now'}; "
                "look into it, then: edge-fleet audit accept"
            )
    if last is None:
        return None
    head = sign_head(key, last.id, last.hash, now_ms)
    write_secret(path, canonical_json(head))
    return head


def accept(
    connection: Connection, key: PrivateKey, path: Path, actor: str, why: str, now_ms: int
) -> SignedHead:
    """Go on from a log that lost rows which were signed; what was lost is written into it for good."""
    before = read_head(path)
    lost = before.model_dump(mode="json") if before else None
    record(connection, actor, "audit log accepted", "audit", now_ms, why=why, lost=lost)
    last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).one()
    head = sign_head(key, last.id, last.hash, now_ms)
    write_secret(path, canonical_json(head))
    return head


class Sealer:
    """Signs the head every second while rows come, and a last time at the end."""

    def __init__(self, services: Services, key: Callable[[], PrivateKey], path: Path) -> None:
        """Take what it reads, signs with and writes to.

        Args:
            key: The director's that is in force.
        """
        self._services, self._key, self._path = services, key, path
        self._told = False

    def run(self, stopping: threading.Event) -> None:
        """Work until told to stop."""
        while not stopping.wait(EVERY_S):
            self.seal_once()
        self.seal_once()

    def seal_once(self) -> None:
        """Sign what is there; a log that lost rows is told once and never signed over."""
        try:
            with self._services.store.read() as connection:
                seal(connection, self._key(), self._path, self._services.now_ms())
            self._told = False
        except (AuditBroken, HomeInvalid, OSError, DBAPIError) as error:
            if not self._told:
                log.error("audit log not signed", extra={"reason": one_line(error)})
            self._told = True
