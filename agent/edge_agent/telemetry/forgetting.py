"""A server that says less than it has acknowledged: its database was restored from before. Pure.

What it acknowledged then is gone from here, so that the hole in its memory would never close: it would
acknowledge nothing above, and with a hundred envelopes on their way the device would fall silent.
"""

from __future__ import annotations

from edge_contracts.messages import Gap

SURE_S = 5.0  # one ack of before may come late; a server that has forgotten says the same to each envelope
REASON = "acknowledged, and the server has forgotten it since"


class Forgetting:
    """Whether the server has forgotten what it had acknowledged; says so once."""

    def __init__(self) -> None:
        """Begin with a server that remembers."""
        self._since_s: float | None = None
        self._told = False

    def remembers(self) -> None:
        """It has acknowledged as much as before, or more."""
        self._since_s, self._told = None, False

    def said_less(self, now_s: float) -> bool:
        """It has acknowledged less than before; whether it is time to own up to what is not here any more."""
        if self._since_s is None:
            self._since_s = now_s
        if self._told or now_s - self._since_s < SURE_S:
            return False
        self._told = True
        return True


def forgotten(remembered: int, acked: int) -> Gap:
    """The record that owns up to it.

    Args:
        remembered: The highest number that the server still knows; -1 for none.
        acked: The highest that it had acknowledged.
    """
    return Gap(first_seq=remembered + 1, last_seq=acked, records=0, reason=REASON)
