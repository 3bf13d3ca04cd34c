"""When a delivery is tried again, and when it is given up. Pure: the random number is an argument.

Full jitter (Brooker, "Exponential backoff and jitter", 2015): receivers that come back are not met by all
deliveries at once.
"""

from __future__ import annotations

FIRST_S, LARGEST_S = 5.0, 3600.0
ATTEMPTS = 12  # about five hours with jitter, ten at most


def next_wait_s(attempts: int, chance: float) -> float | None:
    """Seconds until the next attempt; None when it was the last.

    Args:
        attempts: That have failed, at least 1.
        chance: Uniform in [0, 1).
    """
    if attempts >= ATTEMPTS:
        return None
    ceiling = min(LARGEST_S, FIRST_S * 2.0 ** (attempts - 1))
    return 1.0 + chance * (ceiling - 1.0)


def is_taken(status: int) -> bool:
    """Whether an answer means that the receiver has it; a redirection does not, and is never followed."""
    return 200 <= status < 300


def in_words(status: int) -> str:
    """An answer as it is shown: with what to do, where its number alone does not say it."""
    if 300 <= status < 400:
        return f"HTTP {status}: redirections are not followed; add the URL that it leads to"
    if is_refused_for_good(status):
        return f"HTTP {status} (Gone): not tried again; remove it, or retry once it takes them"
    return f"HTTP {status}"


def is_refused_for_good(status: int) -> bool:
    """Whether an answer means that trying again is in vain: 410, as Standard Webhooks 1.0 has it."""
    return status == 410
