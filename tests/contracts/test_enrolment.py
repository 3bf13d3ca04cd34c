"""What a device signs to come into a fleet."""

from __future__ import annotations

from edge_contracts.enrolment import enrol_proof


def test_the_proof_of_enrolment_binds_token_and_name() -> None:
    proofs = {enrol_proof(t, n) for t in ("one", "two") for n in (None, "a", "b")}
    assert len(proofs) == 6
