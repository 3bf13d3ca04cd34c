"""How a device comes to another key: the old one says which, and the new one proves that the device has it.

A `NextKey` travels in a status that the old key has signed, bound to its topic. The server's word that it
goes by the new key from now on is in the assignment (`Assignment.known_key`), signed by the director. Both
are repeated until the other side has heard: nothing is lost with a message.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.model import Frozen


class NextKey(Frozen):
    """The key that a device wants to be known by.

    Args:
        public_key: Raw.
        proof: Signature of `proof_of` by its private half.
    """

    public_key: Annotated[bytes, Meta(min_length=32, max_length=32)]
    proof: Annotated[bytes, Meta(min_length=64, max_length=64)]


def propose(fleet: str, device: str, old: PublicKey, new: PrivateKey) -> NextKey:
    """What a device with the key `old` says of its next one."""
    return NextKey(public_key=new.public.raw, proof=new.sign(proof_of(fleet, device, old, new.public)))


def proven(fleet: str, device: str, old: PublicKey, said: NextKey) -> PublicKey:
    """The next key of a device that has its private half.

    Raises:
        KeyInvalid: It is no key.
        SignatureInvalid: The proof is for another device, after another key, or by another.
    """
    new = PublicKey(said.public_key)
    new.verify(said.proof, proof_of(fleet, device, old, new))
    return new


def proof_of(fleet: str, device: str, old: PublicKey, new: PublicKey) -> bytes:
    """What the next key signs: it follows this one, of this device, and no other."""
    return f"edgefleet-next-key-v1\n{fleet}\n{device}\n{old.key_id}\n{new.key_id}".encode()
