"""One run of a simulated fleet against a running server: enrol, connect, speak, stop in order, and tell."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from edge_fleet.client import Client
from edge_fleet.errors import RequestInvalid, ServerUnreachable
from edge_fleet.patience import patiently
from edge_fleet.simulation.connection import HELLO_S, Pace
from edge_fleet.simulation.counts import Counts, total
from edge_fleet.simulation.enrolling import enrol_missing
from edge_fleet.simulation.kinds import KINDS
from edge_fleet.simulation.memory import Kept, StateFolder
from edge_fleet.simulation.mix import Mix
from edge_fleet.simulation.verdicts import Answers, Row, ask, rows
from edge_fleet.simulation.workers import Workers, places

TELL_S = 5.0
SETTLE_S, SETTLED_S = 15.0, 3.0  # at the end: for what is under way, and for refusals to be written
ASKED_S = 60.0  # then: for a server that is away


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    seconds: float
    counted: Mapping[str, Counts]
    rows: Sequence[Row]

    def as_dict(self) -> dict[str, Any]:
        """For a program."""
        from edge_fleet.simulation.verdicts import as_dict

        all_of_them = total(dict(self.counted))
        return {
            "seconds": round(self.seconds, 1),
            "envelopes": all_of_them.envelopes,
            "acknowledged": all_of_them.acknowledged,
            "lag_ms": {"p50": all_of_them.lag_ms(0.5), "p99": all_of_them.lag_ms(0.99)},
            "kinds": [as_dict(row) for row in self.rows],
        }


def run(
    client: Client,
    server_host: str,
    folder: StateFolder,
    mix: Mix,
    for_s: float | None,
    tell: Callable[[str], None],
    processes: int = 0,
    hello_s: float = HELLO_S,
    stopped: threading.Event | None = None,
) -> Ran:
    """Simulate until told to stop (SIGINT, SIGTERM), or for so long.

    Args:
        server_host: Where the server is, and a broker that it runs itself.
        tell: Called with a line on how it goes, now and then.
        stopped: Set it to stop.

    Raises:
        FleetError: It cannot begin, or a process of devices has ended.
    """
    wanted = mix.kinds()
    identities = enrol_missing(
        client, folder, wanted, mix.profiles, lambda done, all_of: tell(f"enrolled {done} of {all_of}")
    )
    told = identities[0].enrolled
    if told.mqtt_certificate:
        raise RequestInvalid(
            "this server's broker asks devices for certificates (--client-certificates), and simulated "
            "devices have none to show"
        )
    connections = sum(KINDS[kind].connections * count for kind, count in wanted.items())
    pace = Pace(mix.every, hello_s, mix.inferences)
    before = ask(client, with_phases=False)
    remembered = folder.take()
    kept = [Kept(one, remembered.pop(one.device, None)) for one in identities]
    workers = Workers(kept, places(told, server_host, connections, processes), pace)
    begun_s = time.monotonic()
    try:
        workers.start()
        with _until_told(stopped or threading.Event()) as told_to:
            counted = _watch(client, workers, connections, before, told_to, for_s, tell)
        workers.still()
        tell("stopping: what is under way is waited for")
        counted = _settled(workers, counted)
        # before the server is asked, which may be away; devices that took no part remember what they did
        folder.put([*workers.stop(), *remembered.values()])
        found = rows(identities, counted, before, patiently(lambda: ask(client), time.monotonic() + ASKED_S))
    finally:
        workers.end()
    return Ran(time.monotonic() - begun_s, counted, found)


def _watch(
    client: Client,
    workers: Workers,
    connections: int,
    before: Answers,
    stopped: threading.Event,
    for_s: float | None,
    tell: Callable[[str], None],
) -> dict[str, Counts]:
    begun_s = last_s = time.monotonic()
    counted, last = workers.counted(), 0
    while True:
        left_s = TELL_S if for_s is None else min(TELL_S, begun_s + for_s - time.monotonic())
        if left_s <= 0 or stopped.wait(left_s):
            return counted
        counted = workers.counted()
        now_s, found = time.monotonic(), total(counted)
        rate, last, last_s = (found.acknowledged - last) / (now_s - last_s), found.acknowledged, now_s
        lags = [found.lag_ms(q) for q in (0.5, 0.99)]
        lag = "-" if lags[0] is None or lags[1] is None else f"{lags[0]:.0f}/{lags[1]:.0f} ms"
        tell(
            f"{now_s - begun_s:6.0f} s  connected {found.connected}/{connections}  sent {found.envelopes}  "
            f"acknowledged {found.acknowledged} ({rate:.0f}/s, p50/p99 {lag})  wrong {found.wrong}  "
            f"{_said(client, before)}"
        )


def _said(client: Client, before: Answers) -> str:
    """What the server says meanwhile; it may be away for a while, and devices bear that."""
    try:
        now = ask(client, with_phases=False)
    except ServerUnreachable:
        return "the server does not answer"
    refused = sum(now.refused.values()) - sum(before.refused.values())
    return f"refused {refused}  alerts {len(now.alerts)}"


def _settled(workers: Workers, counted: dict[str, Counts]) -> dict[str, Counts]:
    """Wait until nothing is acknowledged any more."""
    end_s = time.monotonic() + SETTLE_S
    quiet_s, last = time.monotonic(), -1
    while time.monotonic() < end_s and time.monotonic() - quiet_s < SETTLED_S:
        counted = workers.counted()
        found = total(counted).acknowledged
        if found != last:
            quiet_s, last = time.monotonic(), found
        time.sleep(0.2)
    return counted


@contextmanager
def _until_told(stopped: threading.Event) -> Iterator[threading.Event]:
    """The event is set when the user or the service manager wants an end."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
