"""Simulated devices spread over processes: one Python process signs and checks for a few thousand of them."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess

from edge_contracts.digest import digest_of
from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.keys import PublicKey
from edge_contracts.messages import ActiveModel
from edge_fleet.errors import FleetError
from edge_fleet.simulation.connection import Member, Pace, Way
from edge_fleet.simulation.counts import Counts
from edge_fleet.simulation.crowd import Crowd
from edge_fleet.simulation.device import RUNTIME, SimulatedDevice
from edge_fleet.simulation.kinds import KINDS
from edge_fleet.simulation.memory import Kept, Memory

PER_PROCESS = 5000
MOST_PROCESSES, OTHER_FILES = 200, 64
ANSWER_S = 60.0
# what a device runs before anything was rolled out to it: nobody's release
FACTORY = ActiveModel(
    bundle=digest_of(b"edgefleet simulated factory model"),
    name="factory",
    version="0",
    artifact="int8",
    runtime=RUNTIME,
)


@dataclass(frozen=True)
class Place:
    """Where the broker is.

    Args:
        ca: PEM by which it is checked; "" for plain MQTT.
        check_name: Whether its certificate must name the host.
        source: See `connection.Way`.
    """

    host: str
    port: int
    ca: str = ""
    source: str | None = None


def places(told: EnrolAnswer, server_host: str, connections: int, processes: int = 0) -> list[Place]:
    """Where each process connects to.

    Args:
        server_host: Of the server, which the broker is beside when the enrolment named no host.
        processes: 0 for as many as `connections` need.
    """
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    each = PER_PROCESS if files == resource.RLIM_INFINITY else min(PER_PROCESS, files - OTHER_FILES)
    count = processes or max(1, math.ceil(connections / each))
    host = told.mqtt_host or server_host
    own = _is_loopback(host) and sys.platform == "linux" and count > 1
    return [
        Place(
            "127.0.0.1" if own else host,
            told.mqtt_port,
            told.mqtt_ca if told.mqtt_tls else "",
            f"127.0.0.{2 + number}" if own else None,
        )
        for number in range(min(count, MOST_PROCESSES))
    ]


def members(kept: Iterable[Kept]) -> list[Member]:
    """Devices as they go on from what they remember."""
    found = []
    for one in kept:
        identity, told = one.identity, one.identity.enrolled
        memory = one.memory
        for twin in range(KINDS[identity.kind].connections):
            device = SimulatedDevice(
                identity.device,
                told.fleet,
                identity.key,
                PublicKey.from_base64(told.director_key),
                identity.profile,
                KINDS[identity.kind].behaviour,
                active=FACTORY,
                memory=memory,
                n=time.time_ns() // 1_000_000,
            )
            found.append(Member(device, told.mqtt_password, identity.kind, twin))
            memory = device.memory()  # the next of that name has a copy of its disk
    return found


class Workers:
    """The processes with all devices of a run."""

    def __init__(self, kept: Sequence[Kept], places: Sequence[Place], pace: Pace) -> None:
        """Take the devices, one process for each place."""
        context = get_context("spawn")
        count = len(places)
        self._pipes: list[Pipe] = []
        self._processes: list[BaseProcess] = []
        share = replace(pace, connects_per_s=pace.connects_per_s / count)
        for number, place in enumerate(places):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, list(kept[number::count]), place, share), daemon=True
            )
            self._pipes.append(ours)
            self._processes.append(process)

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [one.pid for one in self._processes if one.pid is not None]

    def start(self) -> None:
        """Begin to connect."""
        for process in self._processes:
            process.start()

    def counted(self) -> dict[str, Counts]:
        """What all did so far, by kind.

        Raises:
            WorkerEnded: A process went away.
        """
        found: dict[str, Counts] = {}
        for told in self._ask("count"):
            assert isinstance(told, dict)
            for kind, counts in told.items():
                found.setdefault(kind, Counts()).add(counts)
        return found

    def still(self) -> None:
        """No more turns; what is under way goes on."""
        self._ask("still")

    def stop(self) -> list[Memory]:
        """Disconnect all, end the processes, and give what the devices remember."""
        found = [memory for told in self._ask("stop") if isinstance(told, list) for memory in told]
        self.end()
        return found

    def end(self) -> None:
        """End the processes, whatever they do."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
                process.join()

    def _ask(self, what: str) -> list[object]:
        try:
            for pipe in self._pipes:
                pipe.send(what)
            answers: list[object] = []
            for pipe in self._pipes:
                if not pipe.poll(ANSWER_S):
                    raise EOFError
                answers.append(pipe.recv())
        except (OSError, EOFError):
            raise WorkerEnded(
                "a process of simulated devices has ended; what they remembered is lost"
            ) from None
        return answers


class WorkerEnded(FleetError):
    """A process with simulated devices went away."""


def _work(pipe: Pipe, kept: list[Kept], place: Place, pace: Pace) -> None:
    """The life of one process; it ends with its parent."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us in order
    crowd = Crowd(members(kept), Way(place.host, place.port, _tls(place), place.source), pace)
    crowd.start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked = pipe.recv()
            if asked == "count":
                pipe.send(crowd.counted())
            elif asked == "still":
                crowd.still()
                pipe.send(None)
            else:
                crowd.stop()
                # of twins, the first is the one that goes on
                pipe.send([device.memory() for device in crowd.devices.values()])
                return
    crowd.stop()


def _tls(place: Place) -> ssl.SSLContext | None:
    return ssl.create_default_context(cadata=place.ca) if place.ca else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host) in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return False
