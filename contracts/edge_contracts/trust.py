"""Signed statements about keys and releases that travel as files: by stick, by server, by hand.

A `KeyStatement` changes whom devices trust; a `ReleaseNote` gives a bundle on a stick what an assignment
gives one from the server: its release counter, and permission to go back. Neither expires by a clock, for
a device may have none: a statement's counter only grows, and a permission ends when the device's own
release counter has passed the one that it names.

    what a statement says           signed by a publisher   signed by the director
    add a publisher                 yes                     no: who may assign must not make bundles
    retire or revoke a publisher    yes                     yes
    another director                yes                     yes

A publisher's word on who directs stands above the director's, even that of a publisher which only a director
has retired or revoked: who holds the director's key cannot silence the one that replaces it (decision 103).

A retired key signs nothing new, what it signed before stays. A revoked one (stolen) counts for nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edge_contracts import dsse
from edge_contracts.digest import Digest
from edge_contracts.keys import PrivateKey, PublicKey, TrustedKeys
from edge_contracts.model import Count, Frozen, Identifier, canonical_json, matching, parse_json

KEYS_FORMAT = "edgefleet.key-statement/1"
KEYS_TYPE = "application/vnd.edgefleet.key-statement+json"
KEYS_SUFFIX = ".keys"
RELEASE_FORMAT = "edgefleet.release-note/1"
RELEASE_TYPE = "application/vnd.edgefleet.release-note+json"
RELEASE_SUFFIX = ".release"
MAX_STATEMENT_BYTES = 64 << 10

KeyName = Annotated[str, matching("^[0-9a-f]{32}$")]
RawKey = Annotated[str, matching("^[A-Za-z0-9+/]{43}=$")]
KeyNameOrEmpty = Annotated[str, matching(r"^([0-9a-f]{32})?$")]  # "" for none
RawKeyOrEmpty = Annotated[str, matching(r"^([A-Za-z0-9+/]{43}=)?$")]


class KeyStatement(Frozen):
    """A change of whom devices trust.

    Args:
        fleet: Whose devices it is for; None for every device that trusts who signed it.
        counter: Grows with each statement of publishers, and with each of a director.
        add: Publishers to trust from now on: raw, base64.
        retire: Ids of publishers that sign nothing new.
        revoke: Ids of publishers that count for nothing.
        stop: Whether a device with nothing else must stop answering with a bundle of a revoked key.
        director: Who assigns from now on: raw, base64; "" for no change.
        reason: One line for a person.
    """

    format: Literal["edgefleet.key-statement/1"] = "edgefleet.key-statement/1"
    fleet: Identifier | None = None
    counter: Count
    add: Annotated[tuple[RawKey, ...], Meta(max_length=16)] = ()
    retire: Annotated[tuple[KeyName, ...], Meta(max_length=64)] = ()
    revoke: Annotated[tuple[KeyName, ...], Meta(max_length=64)] = ()
    stop: bool = False
    director: RawKeyOrEmpty = ""
    reason: Annotated[str, Meta(max_length=300)] = ""


class ReleaseNote(Frozen):
    """What a publisher says of a bundle that travels without a server.

    Args:
        bundle: Digest of its manifest.
        counter: Of the release.
        device: The only one that it is for; None for all.
        while_floor: Permission to install it although the device has confirmed a later release, as long
            as that is at most this one; None for no permission.
    """

    format: Literal["edgefleet.release-note/1"] = "edgefleet.release-note/1"
    bundle: Digest
    counter: Count
    device: Identifier | None = None
    while_floor: Count | None = None

    def permits(self, floor: int) -> bool:
        """Whether a device that has confirmed release `floor` may install it."""
        return self.counter >= floor or (self.while_floor is not None and floor <= self.while_floor)


def sign_keys(statement: KeyStatement, key: PrivateKey) -> bytes:
    """The envelope of a statement about keys."""
    return dsse.seal(KEYS_TYPE, canonical_json(statement), key)


def open_keys(envelope: bytes, trusted: TrustedKeys) -> tuple[KeyStatement, str]:
    """A statement about keys, and the id of the key that signed it.

    Raises:
        KeyUnknown, SignatureInvalid: See `dsse.unseal`.
        FormatInvalid, FormatTooNew: Signed, and not such a statement.
    """
    payload, signer = dsse.unseal(envelope, KEYS_TYPE, trusted, "the statement about keys")
    statement = parse_json(KeyStatement, payload, "the statement about keys", KEYS_FORMAT)
    for text in (*statement.add, *filter(None, [statement.director])):
        PublicKey.from_base64(text)
    return statement, signer


def sign_release(note: ReleaseNote, key: PrivateKey) -> bytes:
    """The envelope of a release note."""
    return dsse.seal(RELEASE_TYPE, canonical_json(note), key)


def open_release(envelope: bytes, trusted: TrustedKeys) -> ReleaseNote:
    """A release note by a trusted publisher; raises as `open_keys`."""
    payload, _ = dsse.unseal(envelope, RELEASE_TYPE, trusted, "the release note")
    return parse_json(ReleaseNote, payload, "the release note", RELEASE_FORMAT)
