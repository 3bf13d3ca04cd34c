"""One thing that `edge-agent doctor` has looked at, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How a finding is to be taken."""

    GOOD = "ok"
    NOTICE = "note"  # works, but a person should know
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: What, in a word.
        detail: What was found.
        advice: What to do; "" where there is nothing to do.
    """

    subject: str
    grade: Grade
    detail: str
    advice: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether something must be done."""
        return self.grade is Grade.WRONG


def as_text(findings: list[Finding]) -> str:
    """A line for each, and one below it with what to do."""
    lines = []
    for found in findings:
        lines.append(f"{found.grade:<6} {found.subject:<11} {found.detail}")
        if found.advice:
            lines.append(f"{'':<18} -> {found.advice}")
    wrong = sum(found.is_wrong for found in findings)
    lines.append("nothing is wrong" if not wrong else f"{wrong} of {len(findings)} must be seen to")
    return "\n".join(lines)
