"""When an assignment that no device has answered is sent again. Pure: the time comes in as a number.

A device answers an assignment at once, whatever it then does with it. One that does not was away, and will
say hello when it comes back, or the message was lost although it stayed connected, and then nobody would
say anything until its next hello. So it is sent again, each time after twice as long, and not for ever.
"""

from __future__ import annotations

import heapq

FIRST_S = 15.0  # a slow link's answer takes seconds, and the server's own queue may be long
TIMES = 6  # after 15, 30, 60, 120, 240 and 480 s: longer than an agent's hello interval


class Resending:
    """Which assignments are due again.

    Args:
        first_s: How long the first answer is waited for; each next one twice as long.
        times: How often one is sent again.
    """

    def __init__(self, first_s: float = FIRST_S, times: int = TIMES) -> None:
        """Start with nothing to wait for."""
        self._first_s, self._times = first_s, times
        self._sent: dict[str, tuple[int, int]] = {}  # by device: the number, and how often it was sent
        self._due: list[tuple[float, str, int, int]] = []

    def sent(self, device: str, number: int, now_s: float) -> None:
        """Note that an assignment without an answer was sent, for the first time or again."""
        before, times = self._sent.get(device, (number, 0))
        times = times + 1 if before == number else 1
        self._sent[device] = number, times
        if times <= self._times:
            heapq.heappush(self._due, (now_s + self._first_s * 2 ** (times - 1), device, number, times))

    def forget(self, device: str) -> None:
        """It has answered, or came anew: the next one is waited for from the beginning."""
        self._sent.pop(device, None)

    def due(self, now_s: float) -> list[tuple[str, int]]:
        """Devices, with the numbers of what each was sent last, whose time has come; each is told once."""
        found = []
        while self._due and self._due[0][0] <= now_s:
            _, device, number, times = heapq.heappop(self._due)
            if self._sent.get(device) == (number, times):  # else it was sent again since, for another reason
                found.append((device, number))
        return found

    def wait_s(self, now_s: float) -> float | None:
        """Until something is due; None when nothing is waited for."""
        return max(0.0, self._due[0][0] - now_s) if self._due else None
