"""Many simulated devices on a real broker: one thread with one socket for each.

What a device says at its turn is `kinds.py`'s, what it answers `device.py`'s, how it stays connected
`connection.py`'s. Turns are spread evenly over the time between two of one device.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from edge_fleet.simulation.connection import Connection, Member, Pace, Way
from edge_fleet.simulation.counts import Counts
from edge_fleet.simulation.device import SimulatedDevice
from edge_fleet.simulation.stream import Outgoing

SWEEP_S = 5.0
AT_ONCE = 500  # connections looked after before others get their turn
LAST_WORDS_S = 0.1


class Crowd:
    """Devices that are connected together."""

    def __init__(self, members: Iterable[Member], way: Way, pace: Pace | None = None) -> None:
        """Take the devices; `start` connects them."""
        self._pace = pace or Pace()
        self._counts: dict[str, Counts] = {}
        self._connections = [
            Connection(one, way, self._pace, self._counts.setdefault(one.kind, Counts())) for one in members
        ]
        # of those with one name, the first
        self.devices = {one.device.id: one.device for one in reversed(self._connections)}
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    @property
    def connected(self) -> int:
        """Devices that are connected, subscribed and have said hello."""
        return sum(one.is_ready for one in self._connections)

    def start(self) -> None:
        """Connect one after the other, and again whenever a connection is lost."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect all."""
        if self._thread.ident is None:
            self._loop.close()
        elif self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def each(self, say: Callable[[SimulatedDevice], Outgoing | None]) -> None:
        """Let every connected device say something."""

        async def all_of_them() -> None:
            for one in self._connections:
                if one.is_ready and (said := say(one.device)) is not None:
                    one.send([said])

        asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result()

    def still(self) -> None:
        """No more turns; what is under way goes on."""

        def no_more() -> None:
            for one in self._connections:
                one.is_still = True

        self._loop.call_soon_threadsafe(no_more)

    def counted(self) -> dict[str, Counts]:
        """What was done so far, by kind; a copy."""

        async def now() -> dict[str, Counts]:
            for counts in self._counts.values():
                counts.connected = 0
            for one in self._connections:
                self._counts[one.member.kind].connected += one.is_ready
            found = {kind: Counts() for kind in self._counts}
            for kind, counts in self._counts.items():
                found[kind].add(counts)
            return found

        return asyncio.run_coroutine_threadsafe(now(), self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._work())
        finally:
            self._loop.close()

    async def _work(self) -> None:
        sweeping = asyncio.ensure_future(self._sweep())
        stopping = asyncio.ensure_future(self._stopping.wait())
        begun_s = self._loop.time()
        for number, one in enumerate(self._connections):
            early_s = number / self._pace.connects_per_s - (self._loop.time() - begun_s)
            if early_s > 0.01:
                await asyncio.wait([stopping], timeout=early_s)
            if stopping.done():
                break
            one.begin(number / len(self._connections))
        await stopping
        sweeping.cancel()
        for one in self._connections:
            one.end()
        await asyncio.sleep(LAST_WORDS_S)
        for one in self._connections:
            one.abort()  # a socket that its broker does not read is not waited for
        await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for number, one in enumerate(self._connections):
                one.look_after()
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
