"""The next key of a device: shown to be its own, after one key of one device, and nothing else."""

from __future__ import annotations

import pytest

from edge_contracts.errors import SignatureInvalid
from edge_contracts.keys import PrivateKey
from edge_contracts.succession import NextKey, proof_of, propose, proven

OLD, NEW, OTHER = (PrivateKey.generate() for _ in range(3))


def test_a_next_key_is_the_one_that_was_proposed() -> None:
    said = propose("lab", "cam-1", OLD.public, NEW)
    assert proven("lab", "cam-1", OLD.public, said) == NEW.public


@pytest.mark.parametrize(
    ("fleet", "device", "old"),
    [("yard", "cam-1", OLD), ("lab", "cam-2", OLD), ("lab", "cam-1", OTHER)],
)
def test_a_proof_is_for_one_device_after_one_key(fleet: str, device: str, old: PrivateKey) -> None:
    said = propose("lab", "cam-1", OLD.public, NEW)
    with pytest.raises(SignatureInvalid):
        proven(fleet, device, old.public, said)


def test_a_key_that_the_device_does_not_have_is_refused() -> None:
    by_another = OTHER.sign(proof_of("lab", "cam-1", OLD.public, NEW.public))
    with pytest.raises(SignatureInvalid):
        proven("lab", "cam-1", OLD.public, NextKey(public_key=NEW.public.raw, proof=by_another))
