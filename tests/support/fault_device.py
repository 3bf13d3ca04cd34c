"""A device's life in steps, for the harness of faults: `python fault_device.py FOLDER STEP`.

Each step is a process of its own with the agent's real parts: the updater, its store, its slots and
checks, downloads over HTTP, the outbox. The parts are driven one after the other in one thread, so that
the same operations come in the same order each time. What the device has promised to the world so far
(an envelope with its number, a snapshot, a confirmed bundle) it remarks to the harness the moment it
could be seen outside.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from agent_bundles import build, reference
from enrolled_device import device_config
from fault_director import redirected
from fault_shadow import shadow, shadow_dropped, shadow_switched, told_shadow

from edge_agent.device.config import follow, read_config, read_device_key, trusted_publishers
from edge_agent.device.home import Home, write_durably
from edge_agent.doubt.ordered import OrderedShadows
from edge_agent.inference.golden import read_golden, run_golden
from edge_agent.inference.session import Session
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Limits, Outbox
from edge_agent.updates import installer
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.local import AtOnce
from edge_agent.updates.slots import Event as What
from edge_agent.updates.slots import Phase, Slot, Tell
from edge_agent.updates.store import Store
from edge_agent.updates.updater import Updater
from edge_contracts.bundle import open_bundle
from edge_contracts.digest import digest_of
from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey, read_private, write_private
from edge_contracts.messages import Ack, Assignment, Event, Record, Window
from edge_contracts.model import canonical_json
from edge_contracts.trust import KeyStatement, sign_keys
from edge_contracts.withdrawal import Withdrawn

HEALTHY = Finding(Verdict.HEALTHY)
LIMITS = Limits(records=40)
NOW_MS = 1_800_000_000_000


class Life:
    """The folder of one life: the device's disk, and beside it what the world has.

    Args:
        root: The disk; the home is a folder in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "disk"
        self.home = Home(self.root / "home")
        self.inputs = folder / "inputs"
        self.archives = folder / "archives"

    def make(self) -> None:
        """Enrol a device with nobody: no broker answers at its address."""
        self.archives.mkdir(parents=True)
        self.inputs.mkdir()
        self.root.mkdir()
        self.home.make()
        names = ("director", "publisher", "device", "person", "next", "second", "third")
        keys = {name: PrivateKey.generate() for name in names}
        for name, key in keys.items():
            write_private(key, self.home.key if name == "device" else self.folder / f"{name}.key")
        wrong = np.roll(reference(np.zeros((16, 4), np.float32)), 1, axis=1)
        special: dict[str, dict[str, Any]] = {"4": {"key": keys["person"]}, "bad": {"expected": wrong}}
        for name in ("1", "2", "3", "4", "5", "bad"):
            archive = build(version=name, **({"key": keys["publisher"]} | special.get(name, {})))
            (self.archives / f"{name}.bundle").write_bytes(archive)
        config = device_config(
            public_key=keys["device"].public.base64,
            director_key=keys["director"].public.base64,
            publisher_keys=(keys["publisher"].public.base64,),
        )
        write_durably(self.home.config, canonical_json(config))
        x = np.random.default_rng(3).uniform(-2, 2, (4, 4)).astype(np.float32)
        np.savez(self.inputs / "x.npz", x=x)

    def archive(self, name: str) -> Path:
        """A bundle's file."""
        return self.archives / f"{name}.bundle"

    def digest(self, name: str) -> str:
        """A bundle's name."""
        return open_bundle(self.archive(name)).digest

    def key(self, name: str) -> PrivateKey:
        """One of the keys that the world holds."""
        return read_private(self.folder / f"{name}.key")


def remark(**fields: Any) -> None:
    """Tell the harness what the world knows from now on."""
    path = os.environ.get("FAULT_MARK")
    if path is not None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(handle, json.dumps(fields).encode())
        os.close(handle)


class Device:
    """The agent's parts in one thread; it is its updater's host."""

    def __init__(self, life: Life, server: str) -> None:
        self.life, home = life, life.home
        config = read_config(home)
        assert config is not None
        self._config = config.model_copy(update={"server": server})
        self._director = life.key("director")
        self._trusted = trusted_publishers(home, config)
        self.store = Store(home)
        identity = Identity("plant", "cam-1", read_device_key(home, config), config.director)
        self.outbox = Outbox(home.outbox, identity, LIMITS)
        self._ack_topic = identity.ack
        self.open: str | None = None
        self.updater = Updater(
            home,
            self.store,
            self._config,
            self._trusted,
            self,
            AtOnce(),
            Random(1),
            shadows=OrderedShadows(home),
        )
        self.keep([Event(name="started", time_ms=NOW_MS)])
        self.updater.start()

    def close(self) -> None:
        """Let go of the files, as a process that ends does."""
        self.outbox.close()

    def serve(self, slot: Slot | None) -> Finding | None:
        """Open what a slot holds and ask it its golden inputs."""
        slots, self.open = self.updater.slots, None
        digest = slots.bundle_in(slot)
        if slot is None or digest is None:
            return None
        folder = self.life.home.slot(slot)
        verified = installer.verify_slot(self.life.home, slot, self._trusted.ever, digest)
        session = Session.open(folder, verified.manifest, slots.held[slot].choice)
        result = run_golden(session, read_golden(folder, verified.manifest, session.artifact.id))
        session.close()
        assert result.passed, result.reason
        self.open = digest
        return None

    def trust(self) -> None:
        """Other keys count from now on."""
        self._trusted = trusted_publishers(self.life.home, self._config)
        self.updater.trust(self._trusted)

    def tell(self, tell: Tell) -> None:
        """Keep an event."""
        if tell.event == "confirmed":
            remark(confirmed=tell.bundle)
        self.keep([Event(name=tell.event, time_ms=NOW_MS, bundle=tell.bundle, code=tell.code)])

    def changed(self) -> None:
        """Give a snapshot out."""
        slots = self.updater.slots
        number = self.store.next_snapshot(NOW_MS)
        remark(
            snapshot=number,
            floor=slots.floor,
            number=slots.number,
            era=slots.era,
            phase=slots.phase,
            active=self.open,
            pinned=slots.bundle_in(slots.last_good),
            shadow=told_shadow(self.life.home, slots),
            withdrawn=list(slots.withdrawn.bundles) if slots.withdrawn is not None else [],
        )

    def keep(self, records: list[Record]) -> None:
        """Keep records, and send them: the world has seen them."""
        first = self.outbox.next_seq
        self.outbox.put(records)
        for seq, envelope in self.outbox.waiting(10_000, ()):
            if seq >= first:
                remark(kept=seq, envelope=digest_of(envelope), epoch=self.outbox.epoch)

    def acknowledge(self, high: int) -> None:
        """The server has everything up to a number."""
        envelope = dict(self.outbox.waiting(10_000, ()))[high]
        ack = Ack(device="cam-1", epoch=self.outbox.epoch, high=high, chain=chain_value(envelope))
        remark(acknowledged=high, epoch=self.outbox.epoch)
        assert self.outbox.acknowledge(seal(ack, self._ack_topic, self._director)) == "advanced"

    def assign(self, number: int, name: str, counter: int, **fields: Any) -> None:
        """The server wants a bundle."""
        archive = self.life.archive(name)
        content = archive.read_bytes()
        assignment = Assignment(
            device="cam-1",
            number=number,
            bundle=self.life.digest(name),
            archive=digest_of(content),
            archive_bytes=len(content),
            url_path=archive.name,
            counter=counter,
            **fields,
        )
        self.updater.assigned(assignment, NOW_MS, self.era)

    def another(self) -> str:
        """Name of a bundle that the device neither holds nor is forbidden."""
        slots = self.updater.slots
        held = {one.bundle for one in slots.held.values()}
        free = (name for name in ("3", "2", "1") if self.life.digest(name) not in held)
        return next(name for name in free if not slots.is_withdrawn(self.life.digest(name)))

    @property
    def era(self) -> int:
        """How often a publisher has said who directs."""
        config = read_config(self.life.home)
        assert config is not None
        return config.era

    def keep_what_it_has(self, number: int) -> None:
        """The server wants nothing any more."""
        self.updater.assigned(Assignment(device="cam-1", number=number), NOW_MS, self.era)


def first(device: Device) -> None:
    """An empty device gets its first bundle."""
    device.assign(1, "1", 1)
    device.updater.judged(HEALTHY)


def second(device: Device) -> None:
    """A newer one; the first stays pinned."""
    device.assign(2, "2", 2)
    device.updater.judged(HEALTHY)


def rollback(device: Device) -> None:
    """A person goes back."""
    device.updater.advance(What.ROLLBACK)


def again(device: Device) -> None:
    """What lies in the other slot is wanted after all."""
    device.assign(3, "2", 2)
    device.updater.judged(HEALTHY)


def refused(device: Device) -> None:
    """A bundle that fails its check."""
    device.assign(4, "bad", 3)
    assert device.updater.slots.phase is Phase.IDLE


def unhealthy(device: Device) -> None:
    """A bundle that fails on live inputs."""
    device.assign(5, "3", 3)
    device.updater.judged(Finding(Verdict.UNHEALTHY, "error-rate", "3 of 20"))


def stopped(device: Device) -> None:
    """A stop in good order while a bundle is on trial."""
    device.assign(6, "5", 4)
    assert device.updater.slots.phase is Phase.TRIAL
    device.updater.stop()


def taken_up(device: Device) -> None:
    """The start after it: checked again, tried again."""
    assert device.updater.slots.phase is Phase.TRIAL
    device.updater.judged(HEALTHY)


def ready(device: Device) -> None:
    """A bundle lies ready in the spare slot."""
    device.assign(10, "3", 10, hold=True)
    assert device.updater.slots.phase is Phase.IDLE


def ready_switched(device: Device) -> None:
    """It is switched to."""
    device.assign(11, "3", 10)
    device.updater.judged(HEALTHY)


def ready_dropped(device: Device) -> None:
    """Another one lies ready, and is called off."""
    device.assign(12, "2", 12, hold=True)
    device.keep_what_it_has(13)


def withdrawn(device: Device) -> None:
    """What answers is withdrawn, and what lies beside it; then another comes."""
    both = tuple(sorted(held.bundle for held in device.updater.slots.held.values()))
    assert len(both) == 2
    device.updater.withdraw(Withdrawn(n=1, bundles=both, reason="they see ghosts"))
    assert device.open is None
    device.assign(24, device.another(), 24)
    device.updater.judged(HEALTHY)
    assert device.open is not None


def telemetry(device: Device) -> None:
    """Windows and events kept and acknowledged, added up and dropped when there are too many."""
    bundle = device.life.digest("1")
    window = Window(
        bundle=bundle, artifact="float32", runtime="litert", start_ms=0, end_ms=1, duration_ms=1, inferences=1
    )
    for _ in range(4):
        device.keep([window])
    device.acknowledge(device.outbox.next_seq - 3)
    for _ in range(60):
        device.outbox.put([window])
    day_long = window.model_copy(update={"duration_ms": 24 * 3600 * 1000})  # cannot be added to another
    while not device.outbox.dropped_records:
        device.outbox.put([day_long])
    device.keep([window])
    device.acknowledge(device.outbox.next_seq - 1)
    device.keep([window, Event(name="calm", time_ms=NOW_MS)])


def revoked(device: Device) -> None:
    """The publisher's key was stolen: another takes its place, and what it signed gives way."""
    statement = KeyStatement(
        fleet="plant",
        counter=1,
        add=(device.life.key("next").public.base64,),
        revoke=(device.life.key("publisher").public.key_id,),
    )
    follow(
        device.life.home, read_config(device.life.home), sign_keys(statement, device.life.key("publisher"))
    )
    remark(revoked=device.life.key("publisher").public.key_id)
    device.trust()


def by_hand(life: Life) -> None:
    """A bundle of another publisher, installed at the device."""
    from edge_agent.cli import main

    key = life.folder / "person.pem"
    key.write_bytes(life.key("person").public.pem)
    main(
        ["install", str(life.archive("4")), "--trust", str(key), "--home", str(life.home.folder)],
        standalone_mode=False,
    )
    remark(confirmed=life.digest("4"))


def joined(life: Life) -> None:
    """The device leaves its fleet for another."""
    from edge_agent.cli import main

    answer = EnrolAnswer(
        device="cam-1",
        fleet="yard",
        mqtt_host="127.0.0.1",
        mqtt_port=1,
        mqtt_tls=False,
        mqtt_ca="",
        mqtt_user="cam-1",
        mqtt_password="another",
        director_key=life.key("next").public.base64,
        publisher_keys=(life.key("next").public.base64,),
    )
    with enrolling(answer) as url:
        arguments = ["--server", url, "--token", "a-token-for-once", "--profile", "x86-cpu", "--force"]
        main(["enroll", *arguments, "--home", str(life.home.folder)], standalone_mode=False)
    remark(enrolled="yard")


@contextmanager
def enrolling(answer: EnrolAnswer) -> Iterator[str]:
    """A server that lets everybody in with the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = answer.model_dump_json().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


STEPS: dict[str, Callable[[Device], None]] = {
    "first": first,
    "second": second,
    "rollback": rollback,
    "again": again,
    "refused": refused,
    "unhealthy": unhealthy,
    "stopped": stopped,
    "taken-up": taken_up,
    "ready": ready,
    "ready-switched": ready_switched,
    "ready-dropped": ready_dropped,
    "shadow": shadow,
    "shadow-switched": shadow_switched,
    "shadow-dropped": shadow_dropped,
    "withdrawn": withdrawn,
    "telemetry": telemetry,
    "redirected": redirected,
    "revoked": revoked,
}
BY_HAND: dict[str, Callable[[Life], None]] = {"by-hand": by_hand, "joined": joined}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def main(folder: str, step: str) -> None:
    """Live one step."""
    life = Life(Path(folder))
    if step in BY_HAND:
        BY_HAND[step](life)
        return
    with life.home.locked(), served(life.archives) as url:
        device = Device(life, url)
        STEPS[step](device)
        device.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
