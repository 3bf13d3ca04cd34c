"""Whom a simulated device obeys: the director of its enrolment, and who that one has named since.

It knows no publishers: what one of them says of the director it does not follow. After a restart it begins
with its enrolment and is led along the statements again, as an agent is that was away.
"""

from __future__ import annotations

from contextlib import suppress

from edge_contracts.envelope import enclosed_statements, unseal
from edge_contracts.errors import ContractError, KeyUnknown
from edge_contracts.keys import PublicKey, TrustedKeys
from edge_contracts.messages import Assignment
from edge_contracts.trust import open_keys


class Obedience:
    """The director of one device."""

    def __init__(self, enrolled: PublicKey) -> None:
        """Obey the one that the enrolment named."""
        self._enrolled, self.director = enrolled, enrolled

    @property
    def told(self) -> str:
        """What its snapshots say: "" for the one of the enrolment."""
        return "" if self.director == self._enrolled else self.director.key_id

    def read(self, payload: bytes, where: str) -> Assignment | None:
        """An assignment by who directs when the statements in it are followed; None when that is another now.

        Raises:
            ContractError: It is nobody's whom this device obeys.
        """
        try:
            assignment = unseal(Assignment, payload, where, self.director)
        except KeyUnknown:
            self._follow(enclosed_statements(payload)[1])
            return unseal(Assignment, payload, where, self.director)
        before = self.director
        self._follow(assignment.keys)
        return assignment if self.director == before else None

    def _follow(self, statements: tuple[bytes, ...]) -> None:
        for envelope in statements:
            with suppress(ContractError):
                statement, _ = open_keys(envelope, TrustedKeys.of([self.director]))
                if statement.director:
                    self.director = PublicKey.from_base64(statement.director)
