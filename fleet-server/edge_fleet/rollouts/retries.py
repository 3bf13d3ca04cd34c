"""What a failed attempt is put down to, and how often each cause may be tried again. Pure.

A wait is not a failure (docs/decisions/0062): a device that waits says `downloading` with a code, and
takes nothing from a budget. What counts is a final word, `refused` or `rolled_back`, by its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from edge_fleet.model import Frozen


class Cause(StrEnum):
    """What an attempt failed of."""

    SHED = "shed"  # the server, a budget or the hour had no room for the download
    NETWORK = "network"  # the archive could not be had, or not whole
    VERIFICATION = "verification"  # it was had, and is not what was signed for this device
    GOLDEN = "golden"  # golden inputs disagreed, or it was too slow
    CRASH = "crash"  # its runtime or the device went down with it


# The agent's codes (docs/updates.md). One that is not here is never tried again by itself:
# "downgrade", "no-space", "wrong-profile" and "operator" stay wrong however often they are asked.
CAUSE_OF: Mapping[str, Cause] = {
    **dict.fromkeys(("server-busy", "data-budget", "hours", "expired"), Cause.SHED),
    **dict.fromkeys(("server-unreachable", "server-refused", "cancelled"), Cause.NETWORK),
    **dict.fromkeys(
        (
            "digest-mismatch",
            "signature-invalid",
            "key-unknown",
            "bundle-invalid",
            "format-invalid",
            "install-refused",
        ),
        Cause.VERIFICATION,
    ),
    **dict.fromkeys(("golden-mismatch", "too-slow"), Cause.GOLDEN),
    **dict.fromkeys(
        (
            "crash",
            "hang",
            "no-answer",
            "no-process",
            "restarted",
            "check-unfinished",
            "runtime-crashed",
            "runtime-hung",
            "runtime-lost",
        ),
        Cause.CRASH,
    ),
}

BACK_TRIES = (
    3  # of a way back, for each cause, whatever the plan allows the way there: it is the way to safety
)
BUDGET = "attempts after the first that may fail so, 0 to 100"


class Retries(Frozen):
    """How often a device is tried again, by what its attempt failed of.

    Args:
        backoff_s: Before the first of them; doubled for each that follows, up to an hour.
    """

    shed: int = Field(default=10, ge=0, le=100, description=BUDGET)
    network: int = Field(default=5, ge=0, le=100, description=BUDGET)
    verification: int = Field(default=0, ge=0, le=100, description=BUDGET)
    golden: int = Field(default=0, ge=0, le=100, description=BUDGET)
    crash: int = Field(default=0, ge=0, le=100, description=BUDGET)
    backoff_s: float = Field(
        default=60.0, ge=0, le=3600, description="seconds before the first retry, 0 to 3600"
    )

    def cause(self, code: str, used: Mapping[str, int]) -> Cause | None:
        """The budget that a failed attempt may still take from, or None when it may not be tried again.

        Args:
            code: The device's own word.
            used: Retries so far, by cause.
        """
        cause = CAUSE_OF.get(code)
        if cause is None or used.get(cause, 0) >= int(getattr(self, cause)):
            return None
        return cause

    def due_s(self, failed_s: float, used: Mapping[str, int]) -> float:
        """When the next attempt may begin; `used` of the same way, there or back."""
        doubled: float = self.backoff_s * 2.0 ** min(20, sum(used.values()))
        return failed_s + min(LONGEST_BACKOFF_S, doubled)


LONGEST_BACKOFF_S = 3600.0
_BACK = "back-"


def cause_back(code: str, used: Mapping[str, int]) -> Cause | None:
    """What a failed way back is put down to, where it is tried again; None where that is for a person."""
    cause = CAUSE_OF.get(code)
    return None if cause is None or used.get(f"{_BACK}{cause}", 0) >= BACK_TRIES else cause


def back_name(cause: Cause) -> str:
    """What attempts of the way back are counted as, beside those of the way there."""
    return f"{_BACK}{cause}"


def used_back(used: Mapping[str, int]) -> dict[str, int]:
    """Attempts of the way back alone."""
    return {name: count for name, count in used.items() if name.startswith(_BACK)}
