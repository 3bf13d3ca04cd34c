"""Faults at every operation on the disk, and what a device must be afterwards.

A life (`fault_device.py`) is recorded once under the shim. From the record follows what lies on the disk
if the process is killed after any operation, and what may lie there if the power is cut. Each of those
disks is given to the real daemon, which must start, answer with a verified bundle and report what is so.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import fault_device
import fault_shadow
import numpy as np
from agent_bundles import reference
from fault_device import Life
from fault_disk import Disk, Operation, Tree, read_log, read_tree, replay, write_tree

from edge_agent.device.config import read_config, read_device_key, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.device.status import read_status
from edge_agent.updates import installer
from edge_agent.updates.slots import Phase, Slot
from edge_agent.updates.store import Store
from edge_contracts.digest import digest_of
from edge_contracts.envelope import chain_value, unseal
from edge_contracts.errors import ContractError
from edge_contracts.messages import Gap, Telemetry
from edge_contracts.topics import Channel, topic

HERE = Path(__file__).parent
DEADLINE_S = 60.0
STEPS = (*fault_device.STEPS, *fault_device.BY_HAND)
Marks = list[dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One step of a life as it was recorded.

    Args:
        before: The disk at its beginning, all that programs see; what a killed process left.
        operations: Its marks among them.
    """

    name: str
    before: Tree
    operations: tuple[Operation, ...]

    @property
    def points(self) -> list[int]:
        """How many operations are kept at each point where it can be stopped: all but marks count."""
        return [n + 1 for n, one in enumerate(self.operations) if one.kind != "mark"]


@dataclass(frozen=True)
class Recording:
    """A whole life."""

    life: Life
    start: Tree
    steps: tuple[Step, ...]

    def without(self, unwanted: Callable[[Operation], bool]) -> Recording:
        """The same life, had the program left some operations out: syncs, as a rule."""
        steps = (
            Step(s.name, s.before, tuple(o for o in s.operations if not unwanted(o))) for s in self.steps
        )
        return Recording(self.life, self.start, tuple(steps))


@dataclass(frozen=True)
class Case:
    """A disk to start from, and what the world had been promised by then.

    Args:
        what: Such as "first: power cut after operation 17 (write home/state.json.new)".
        known: Marks up to the fault.
        ahead: Marks of the same step that would have come.
    """

    what: str
    tree: Tree
    known: Marks
    ahead: Marks


@dataclass
class Outcome:
    """What a case came to.

    Args:
        lost: Something promised is gone or was taken back.
        bricked: The device does not start, or does not answer.
        untrue: It reports something else than what is so.
    """

    what: str = ""
    lost: list[str] = field(default_factory=list)
    bricked: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong."""
        return [*self.bricked, *self.lost, *self.untrue]


def compiler() -> str | None:
    """A C compiler, which the shim needs."""
    return shutil.which("cc") or shutil.which("gcc")


def build_shim(folder: Path) -> Path:
    """Compile the shim."""
    library = folder / "fault_shim.so"
    found = compiler()
    assert found is not None, "no C compiler"
    command = [found, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "fault_shim.c")]
    subprocess.run(command, check=True)
    return library


def live(life: Life, step: str, shim: Path, log: Path, at: int = 0, torn: bool = False) -> int:
    """Run a step under the shim; the exit code of its process."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        "FAULT_ROOT": str(life.root),
        "FAULT_LOG": str(log),
        "FAULT_MARK": str(life.folder / "mark"),
        "FAULT_AT": str(at),
        "FAULT_TORN": "1" if torn else "",
        "LD_PRELOAD": str(shim),
    }
    command = [sys.executable, str(HERE / "fault_device.py"), str(life.folder), step]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(f"step {step} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.returncode


def record(folder: Path, shim: Path, steps: Sequence[str] = STEPS) -> Recording:
    """Live a life from its beginning and write down what happened to the disk."""
    life = Life(folder)
    life.make()
    start, recorded = read_tree(life.root), []
    for name in steps:
        before, log = read_tree(life.root), folder / f"{name}.log"
        code = live(life, name, shim, log)
        assert code == 0, f"step {name} was killed"
        recorded.append(Step(name, before, tuple(read_log(log, life.root))))
    found = Recording(life, start, tuple(recorded))
    everything = replay(start, (o for s in found.steps for o in s.operations)).everything()
    assert everything == read_tree(life.root), "the log does not explain the disk"
    return found


def kills(recording: Recording, every: int = 1) -> Iterator[Case]:
    """Stopped after each n-th operation: everything that was written is there, nothing after it."""
    yield from _cases(recording, every, "killed", lambda disk: [disk.everything()])


def cuts(recording: Recording, every: int = 1) -> Iterator[Case]:
    """Power cut after each n-th operation: only what was synced is there."""
    yield from _cases(recording, every, "power cut", lambda disk: [disk.safe()])


def random_cuts(recording: Recording, count: int, random: Random) -> Iterator[Case]:
    """Power cut at random moments with a random part of what was not synced."""
    total = sum(len(step.points) for step in recording.steps)
    chosen = sorted(random.choices(range(total), k=count))
    numbers = iter(range(total))

    def trees(disk: Disk) -> list[Tree]:
        return [disk.survivor(random) for _ in range(chosen.count(next(numbers)))]

    yield from _cases(recording, 1, "power cut, some of it written", trees)


def really_killed(recording: Recording, step: Step, at: int, torn: bool, shim: Path, folder: Path) -> Case:
    """A process that got SIGKILL after an operation; where `torn` says so, after half of a write."""
    life = Life(folder)
    folder.mkdir()
    for shared in recording.life.folder.glob("*.key"):
        shutil.copy(shared, folder)
    for shared_folder in ("archives", "inputs"):
        (folder / shared_folder).symlink_to(recording.life.folder / shared_folder)
    write_tree(step.before, life.root)
    log = folder / "log"
    code = live(life, step.name, shim, log, at, torn)
    assert code == -signal.SIGKILL, f"{step.name} has no operation {at}"
    known = [m for s in recording.steps[: recording.steps.index(step)] for m in _marks(s.operations)]
    operations = read_log(log, life.root)
    what = f"{step.name}: SIGKILL at operation {at}{' by half' if torn else ''} ({_named(operations[-1])})"
    tree = read_tree(life.root)
    shutil.rmtree(folder)
    return Case(what, tree, [*known, *_marks(operations)], _marks(step.operations))


def judged_apart(recording: Recording, cases: Iterable[Case], folder: Path) -> list[Outcome]:
    """The same, forked from a fresh process: what a test runner has loaded by then does not bear a fork."""
    with get_context("spawn").Pool(1) as fresh:
        return fresh.apply(_judged, (recording, list(cases), folder))


def _judged(recording: Recording, cases: list[Case], folder: Path) -> list[Outcome]:
    return list(judge_all(recording, cases, folder))


def judge_all(recording: Recording, cases: Iterable[Case], folder: Path, jobs: int = 4) -> Iterator[Outcome]:
    """Start the daemon on the disk of each case; several at a time, each in a process forked from this one.

    Neighbours whose disks are equal share a start: what was promised differs, and is judged for each.
    """
    import edge_agent.agent  # noqa: F401  (loaded once, before the forks)

    folder.mkdir(exist_ok=True)
    running: dict[int, tuple[list[Case], Path]] = {}
    for number, (_, equal) in enumerate(groupby(cases, key=lambda case: case.tree)):
        if len(running) >= jobs:
            yield from _next(running)
        place, group = folder / str(number), list(equal)
        pid = os.fork()
        if pid == 0:
            _forked(recording.life, group, place)
        running[pid] = (group, place)
    while running:
        yield from _next(running)


def _next(running: dict[int, tuple[list[Case], Path]]) -> list[Outcome]:
    pid, code = os.wait()
    group, place = running.pop(pid)
    try:
        outcomes = [Outcome(**found) for found in json.loads((place / "outcomes.json").read_text())]
    except OSError:
        ended = f"the daemon ended with {os.waitstatus_to_exitcode(code)}"
        outcomes = [Outcome(case.what, bricked=[ended]) for case in group]
    for outcome in outcomes:
        if outcome.bricked and (place / "stderr").exists():
            outcome.bricked.append((place / "stderr").read_text()[-1500:])
    shutil.rmtree(place, ignore_errors=True)
    return outcomes


def _forked(life: Life, group: list[Case], place: Path) -> None:
    """The child of a fork: never returns."""
    code = 1
    try:
        place.mkdir()
        stderr = os.open(place / "stderr", os.O_WRONLY | os.O_CREAT)
        os.dup2(stderr, 1)
        os.dup2(stderr, 2)
        faulthandler.enable(stderr)
        write_tree(group[0].tree, place / "disk")
        home = Home(place / "disk" / "home")
        answers = start(life, home, place)
        outcomes = [judge(life, case, home, answers) for case in group]
        (place / "outcomes.json").write_text(json.dumps([vars(outcome) for outcome in outcomes]))
        code = 0
    except BaseException as error:
        traceback.print_exception(error)
        sys.stderr.flush()
    os._exit(code)


def start(life: Life, home: Home, place: Path) -> list[dict[str, Any]]:
    """Run the daemon in this process until it has settled and answered; its answers."""
    from edge_agent.cli import main

    log = place / "answers.jsonl"
    threading.Thread(target=_stop_when_settled, args=(home, log), daemon=True).start()
    arguments = ["--input", str(life.inputs), "--loop", "--rate", "50", "--answers", str(log)]
    trial = ["--health-window", "0", "--health-inferences", "1"]
    main(["run", "--home", str(home.folder), *arguments, *trial], standalone_mode=False)
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def judge(life: Life, case: Case, home: Home, answers: list[dict[str, Any]]) -> Outcome:
    """What a device is after it has started again, held against what was promised."""
    outcome = Outcome(case.what)
    config = read_config(home)
    fleet = config.fleet if config is not None else "none"
    if any(mark.get("enrolled", fleet) != fleet for mark in case.known):
        outcome.lost.append(f"the device is in fleet {fleet} again")
    if fleet != "plant":  # what one fleet counted is nothing to the next
        known = [mark for mark in case.known if "confirmed" in mark]
        case = replace(case, known=known)
    _judge_bundle(life, home, case, answers, outcome)
    _judge_pinned(home, case, outcome)
    _judge_keys(home, case, outcome)
    _judge_withdrawn(home, case, answers, outcome)
    outcome.untrue += fault_shadow.faults_of(home, case.known, case.ahead)
    _judge_counters(home, case, outcome)
    _judge_outbox(home, case, outcome)
    return outcome


def _stop_when_settled(home: Home, answers: Path) -> None:
    """Ask the daemon in this process to stop when it has nothing under way and has answered."""
    deadline_s = monotonic() + DEADLINE_S
    while home.holder() is None and monotonic() < deadline_s:
        sleep(0.02)
    empty_since_s = None
    while monotonic() < deadline_s:
        sleep(0.05)
        slots = Store(home).slots
        if slots.phase is not Phase.IDLE:
            empty_since_s = None
            continue
        if slots.active is None:
            empty_since_s = empty_since_s or monotonic()
            if monotonic() > empty_since_s + 0.5:
                break
        # what was answered before a switch does not count: the last line must be the active bundle's
        elif answers.exists() and (slots.bundle_in(slots.active) or "?") in _last_line(answers):
            break
    else:
        os._exit(3)  # it neither answers nor ends
    while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL and monotonic() < deadline_s:
        sleep(0.02)  # a daemon that has nothing to serve may still be on its way to take it
    os.kill(os.getpid(), signal.SIGTERM)


def _last_line(path: Path) -> str:
    lines = path.read_text().splitlines()
    return lines[-1] if lines else ""


def _judge_bundle(
    life: Life, home: Home, case: Case, answers: list[dict[str, Any]], outcome: Outcome
) -> None:
    """Whether a verified bundle answers, the right one, and whether it is the one that is reported."""
    status = read_status(home)
    if status["fault"]:
        outcome.untrue.append(f"the state is damaged: {status['fault']}")
    active = status["active"]["bundle"] if status["active"] else None
    allowed = _allowed(case)
    if active not in allowed:
        outcome.bricked.append(f"{active} is active, allowed are {sorted(map(str, allowed))}")
    if active is None:
        return
    slot = Slot(status["active"]["slot"])
    try:
        installer.verify_slot(home, slot, trusted_publishers(home, read_config(home)).ever, active)
    except ContractError as error:
        outcome.bricked.append(f"what is active does not verify: {error}")
    if not answers or answers[-1]["bundle"] != active:
        said = answers[-1]["bundle"] if answers else "nothing"
        outcome.untrue.append(f"{said} answers, {active} is reported")
    expected = reference(np.load(life.inputs / "x.npz")["x"])
    for answer in answers:
        row = int(answer["input"].rpartition(":")[2]) % len(expected)
        if not np.allclose(answer["outputs"]["scores"][0], expected[row], atol=1e-4):
            outcome.untrue.append(f"a wrong answer: {answer['outputs']}")
            break


def _judge_keys(home: Home, case: Case, outcome: Outcome) -> None:
    """Whether a key that was revoked counts again, or a director of before is obeyed again."""
    config = read_config(home)
    trusted = trusted_publishers(home, config)
    told = [mark["obeys"] for mark in case.known if "obeys" in mark][-1:]
    coming = {mark["obeys"] for mark in case.ahead if "obeys" in mark}
    if told and config is not None and config.director.key_id not in {*told, *coming}:
        outcome.lost.append(f"director {config.director.key_id} is obeyed, {told[0]} was")
    for mark in case.known:
        if "revoked" in mark and mark["revoked"] in trusted.keys:
            outcome.lost.append(f"the revocation of key {mark['revoked']}")


def _judge_withdrawn(home: Home, case: Case, answers: list[dict[str, Any]], outcome: Outcome) -> None:
    """Whether anything answers, or is kept, that the device has said it parts from."""
    gone = {bundle for mark in case.known for bundle in mark.get("withdrawn", ())}
    held = {held.bundle for held in Store(home).slots.held.values()}
    outcome.lost += [f"withdrawn {bundle} is held" for bundle in sorted(gone & held)]
    said = {answer["bundle"] for answer in answers}
    outcome.lost += [f"withdrawn {bundle} answers" for bundle in sorted(gone & said)]


def _judge_pinned(home: Home, case: Case, outcome: Outcome) -> None:
    """Whether the last good bundle is still there to go back to."""
    told = [mark for mark in case.known if "pinned" in mark][-1:]
    if not told or told[0]["phase"] != Phase.IDLE or told[0]["pinned"] is None:
        return
    found = read_status(home)["last_good"]
    pinned = found["bundle"] if found else None
    allowed = {told[0]["pinned"], *(mark.get("pinned") for mark in case.ahead), *_allowed(case)}
    if case.what.startswith(tuple(fault_device.BY_HAND)):
        return  # it says nothing of its staging, which frees the slot
    if pinned not in allowed:
        outcome.lost.append(f"{pinned} is the last good bundle, allowed are {sorted(map(str, allowed))}")


def _judge_counters(home: Home, case: Case, outcome: Outcome) -> None:
    """Whether a number that was given out can be given out again, or an old order count as new."""
    store = Store(home)
    floor = max((mark["floor"] for mark in case.known if "floor" in mark), default=-1)
    if store.slots.floor < floor:
        outcome.lost.append(f"floor is {store.slots.floor}, it was {floor}")
    # numbers begin anew in each era
    number = max(((mark["era"], mark["number"]) for mark in case.known if "number" in mark), default=(0, -1))
    if (store.slots.era, store.slots.number) < number:
        outcome.lost.append(f"number is {store.slots.number} of era {store.slots.era}, it was {number}")
    given = max((mark["snapshot"] for mark in case.known if "snapshot" in mark), default=-1)
    if store.next_snapshot(0) <= given:
        outcome.lost.append(f"snapshot {given} would be given out twice")


def _judge_outbox(home: Home, case: Case, outcome: Outcome) -> None:
    """Whether every envelope that was kept is there with the same bytes, acknowledged, or owned up to."""
    config = read_config(home)
    assert config is not None
    where = topic(config.fleet, config.device, Channel.TELEMETRY)
    key = read_device_key(home, config).public
    db = sqlite3.connect(home.outbox)
    try:
        epoch, next_seq, acked = db.execute("SELECT epoch, next_seq, acked FROM head").fetchone()
        rows = dict(db.execute("SELECT seq, envelope FROM envelopes ORDER BY seq").fetchall())
    finally:
        db.close()
    owned_up: set[int] = set()
    for seq, envelope in rows.items():
        told = unseal(Telemetry, envelope, where, key)
        for gap in (r for r in told.recs if isinstance(r, Gap)):
            owned_up |= set(range(gap.first_seq, gap.last_seq + 1))
        if seq - 1 in rows and told.prev != chain_value(rows[seq - 1]):
            outcome.lost.append(f"the chain is broken at {seq}")
    high = max((mark["acknowledged"] for mark in case.known if "acknowledged" in mark), default=-1)
    if acked > high:
        outcome.lost.append(f"{acked} counts as acknowledged, {high} is")
    for mark in case.known:
        if "kept" not in mark:
            continue
        seq = mark["kept"]
        if mark["epoch"] != epoch:
            outcome.lost.append(f"the outbox was begun anew after envelope {seq}")
            break
        if seq >= next_seq:
            outcome.lost.append(f"number {seq} would be given out twice")
        elif seq in rows and digest_of(rows[seq]) != mark["envelope"]:
            outcome.lost.append(f"envelope {seq} has changed")
        elif seq not in rows and seq > acked and seq not in owned_up:
            outcome.lost.append(f"envelope {seq} is gone, acknowledged is {acked}")


def _allowed(case: Case) -> set[str | None]:
    """Bundles that may answer after the fault: what was settled last, and what was under way since."""
    allowed: set[str | None] = {None}
    for mark in case.known:
        if "confirmed" in mark:
            allowed = {mark["confirmed"]}
        elif "snapshot" in mark:
            if mark["phase"] == Phase.IDLE:
                allowed = {mark["active"]}
            else:
                allowed.add(mark["active"])
    allowed |= {mark["active"] for mark in case.ahead if "active" in mark}
    return allowed | {mark["confirmed"] for mark in case.ahead if "confirmed" in mark}


def _cases(recording: Recording, every: int, how: str, trees: Callable[[Disk], list[Tree]]) -> Iterator[Case]:
    disk, known = Disk(recording.start), list[dict[str, Any]]()
    count = 0
    for step in recording.steps:
        marks = _marks(step.operations)
        passed = 0
        for number, operation in enumerate(step.operations):
            disk.apply(operation)
            if operation.kind == "mark":
                known.append(marks[passed])
                passed += 1
                continue
            count += 1
            if count % every == 0:
                what = f"{step.name}: {how} after operation {number + 1} ({_named(operation)})"
                for tree in trees(disk):
                    yield Case(what, tree, list(known), marks[passed:])


def _marks(operations: Iterable[Operation]) -> Marks:
    return [json.loads(one.content) for one in operations if one.kind == "mark"]


def _named(operation: Operation) -> str:
    return f"{operation.kind} {operation.path or 'the disk'}"
