"""A simulated device: speaks the true contracts, signs with a key of its own, and runs nothing.

No socket and no clock are in here: messages go in, messages with the time at which they are due come
out. `crowd.py` connects many of them to a real broker, `kinds.py` says how some misbehave. What it does with
an assignment is what an agent tells of it (docs/updates.md), in the time that its behaviour says.
"""

from __future__ import annotations

import base64
import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_contracts.envelope import seal, unseal
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.lineup import LineupCounts, ShadowCounts
from edge_contracts.messages import (
    FINAL_PHASES,
    Ack,
    ActiveModel,
    Assignment,
    DeviceState,
    Knows,
    Phase,
    Progress,
    Window,
)
from edge_contracts.sketch import QuantileSketch, bin_index
from edge_contracts.topics import TO_DEVICE, Channel, topic
from edge_contracts.withdrawal import Withdrawn
from edge_fleet.simulation.memory import Memory
from edge_fleet.simulation.obedience import Obedience
from edge_fleet.simulation.stream import Outgoing, Stream

AGENT = "0.1.0"
RUNTIME = "litert 2.3.0"


@dataclass(frozen=True)
class Behaviour:
    """How a device takes to a release.

    Args:
        download_s, check_s: How long it takes to have it, and to check and try it.
        fails: By bundle: the final phase other than confirmed that it comes to, and the code.
        error_share: By bundle: share of its inferences that fail.
        differing: By bundle: share of the inputs that it answers otherwise, as a shadow.
        latency_ms: Of one inference.
        always: What any release comes to, where `fails` names none, if it comes to no good.
        slowed: How much slower a release is than what the device ran at first.
        errors: Share of failing inferences of any release, where `error_share` names none.
    """

    download_s: float = 0.2
    check_s: float = 0.2
    fails: Mapping[str, tuple[Phase, str]] = field(default_factory=dict)
    error_share: Mapping[str, float] = field(default_factory=dict)
    differing: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float = 5.0
    always: tuple[Phase, str] | None = None
    slowed: float = 1.0
    errors: float = 0.0


class SimulatedDevice:
    """One device.

    Args:
        director: Whose assignments it follows at first.
        profile: Its lineage, nearest first.
        active: What it runs at first, which is nobody's release.
        memory: Of an earlier run, instead of the beginning.
        n: Number of its last snapshot; larger than all before, as the time in milliseconds is.
    """

    def __init__(
        self,
        device: str,
        fleet: str,
        key: PrivateKey,
        director: PublicKey,
        profile: Sequence[str],
        behaviour: Behaviour | None = None,
        active: ActiveModel | None = None,
        counter: int = 0,
        memory: Memory | None = None,
        n: int = 0,
    ) -> None:
        """Begin with an empty outbox, or where it stood; `hello` is its first word."""
        self.id, self.fleet, self.key, self._obedience = device, fleet, key, Obedience(director)
        self.behaviour = behaviour or Behaviour()
        self.active, self.last_good, self.counter = active, None, counter
        self.shadow: Assignment | None = None
        self.brought: str | None = None  # lies ready in the spare slot
        self.withdrawn: Withdrawn | None = None
        self.assignment: Assignment | None = None
        self.progress: Progress | None = None
        self.refused = 0  # messages that were not the director's, or not for this device
        self._profile = tuple(profile)
        self.stream = Stream(topic(fleet, device, Channel.TELEMETRY), key)
        self._n = n
        self._order = itertools.count()
        self._later: list[tuple[float, int, int, Phase, str]] = []
        self._first = active.bundle if active else None
        if memory is not None:
            self._recall(memory)

    last_good: ActiveModel | None

    @property
    def topics(self) -> tuple[str, ...]:
        """What it listens to."""
        return tuple(topic(self.fleet, self.id, channel) for channel in TO_DEVICE)

    def hello(self, now_s: float) -> Outgoing:
        """Its first word after each connection."""
        return self._state("hello", now_s)

    def memory(self) -> Memory:
        """What it would find again after a restart."""
        assigned = self.assignment
        return Memory(
            device=self.id,
            epoch=self.stream.epoch,
            next_seq=self.stream.next_seq,
            prev=base64.b64encode(self.stream.prev).decode(),
            unacknowledged=self.stream.kept(),
            counter=self.counter,
            # statements about keys are not looked at here, and are no text
            assignment=assigned.model_copy(update={"keys": ()}) if assigned else None,
            progress=self.progress,
            active=self.active,
            last_good=self.last_good,
            withdrawn=self.withdrawn,
        )

    def _recall(self, memory: Memory) -> None:
        prev = base64.b64decode(memory.prev)
        self.stream.go_on(memory.epoch, memory.next_seq, prev, memory.unacknowledged)
        self.counter, self.active, self.last_good = memory.counter, memory.active, memory.last_good
        self.withdrawn = memory.withdrawn
        if memory.progress is not None and memory.progress.phase in FINAL_PHASES:
            # an installation that was under way begins again with the answer to its hello
            self.assignment, self.progress = memory.assignment, memory.progress
            self.shadow = memory.assignment if memory.progress.phase is Phase.SHADOW else None

    def take(self, where: str, payload: bytes, now_s: float) -> list[Outgoing]:
        """Take a message in; what is to be said at once. What comes later is told by `due`."""
        try:
            if where == topic(self.fleet, self.id, Channel.ACK):
                ack = unseal(Ack, payload, where, self._obedience.director)
                if ack.epoch == self.stream.epoch:
                    self.stream.forget(ack.high, now_s)
                return []
            assignment = self._obedience.read(payload, where)
        except ContractError:
            self.refused += 1
            return []
        if assignment is None:
            return [self.hello(now_s)]  # another directs now: it is asked
        if assignment.device != self.id:
            self.refused += 1
            return []
        parted = [] if assignment.withdrawn is None else self._withdraw(assignment.withdrawn, now_s)
        return parted + self._assigned(assignment, now_s)

    def due(self, now_s: float) -> list[Outgoing]:
        """What is to be said by now."""
        said = []
        while self._later and self._later[0][0] <= now_s:
            _, _, number, phase, code = heapq.heappop(self._later)
            if self.assignment is not None and self.assignment.number == number:
                said.append(self._tell(phase, code, now_s))
        return said

    def next_due_s(self) -> float | None:
        """When `due` has something next."""
        return self._later[0][0] if self._later else None

    def window(self, inferences: int, now_s: float, **fields: object) -> Outgoing | None:
        """What its model did for a while, sealed; None when it runs nothing."""
        record = self.measured(inferences, now_s, **fields)
        return None if record is None else self.stream.seal(now_s, record)

    def measured(self, inferences: int, now_s: float, **fields: object) -> Window | None:
        """What its model did for a while."""
        if self.active is None:
            return None
        bundle, its = self.active.bundle, self.behaviour
        is_first = bundle == self._first
        share = its.error_share.get(bundle, 0.0 if is_first else its.errors)
        errors, latency_ms = round(inferences * share), its.latency_ms * (1.0 if is_first else its.slowed)
        now_ms = round(now_s * 1000)
        stated = {
            "bundle": bundle,
            "artifact": self.active.artifact,
            "runtime": self.active.runtime,
            "start_ms": max(0, now_ms - 1000),
            "end_ms": now_ms,
            "duration_ms": 1000,
            "inferences": inferences - errors,
            "errors": {"simulated": errors} if errors else {},
            "latency_ms": QuantileSketch(bins={bin_index(latency_ms): inferences - errors}),
            "golden_total": 1,
            "golden_agree": 1,
        }
        if self.shadow is not None and self.shadow.bundle is not None and self.shadow.shadow is not None:
            bundle, compared = self.shadow.bundle, inferences * self.shadow.shadow.per_mille // 1000
            agreed = compared - round(compared * self.behaviour.differing.get(bundle, 0.0))
            shadow = ShadowCounts(bundle=bundle, compared=compared, agreed=agreed)
            stated["lineup"] = LineupCounts(shadow=shadow)
        return Window.model_validate(stated | fields)

    def _withdraw(self, word: Withdrawn, now_s: float) -> list[Outgoing]:
        """Part from what the fleet has withdrawn."""
        if self.withdrawn is not None and word.n <= self.withdrawn.n:
            return []  # an old word
        self.withdrawn = word
        if self.last_good is not None and self.last_good.bundle in word.bundles:
            self.last_good = None
        if self.active is not None and self.active.bundle in word.bundles:
            self.active, self.last_good = self.last_good, None
        if self.brought in word.bundles:
            self.brought = None
        assigned = self.assignment
        if assigned is not None and assigned.bundle in word.bundles and self.progress is not None:
            self._later = []
            done = self.progress.phase in (Phase.CONFIRMED, Phase.SHADOW)
            return [self._tell(Phase.ROLLED_BACK if done else Phase.REFUSED, "withdrawn", now_s)]
        return [self._state("status", now_s)]

    def _assigned(self, assignment: Assignment, now_s: float) -> list[Outgoing]:
        highest = -1 if self.assignment is None else self.assignment.number
        if assignment.number < highest:
            return []  # a replay
        if assignment.number == highest and self.progress is not None:
            if self.progress.phase in FINAL_PHASES:
                return [self._state("status", now_s)]  # the server has missed the answer
            return []
        before, self.shadow = self.shadow, None  # it stands while its assignment is the newest
        self.assignment, self._later = assignment, []
        if assignment.bundle is None:
            return [self._tell(Phase.CONFIRMED, "", now_s)] if assignment.number else []
        if self.active is not None and self.active.bundle == assignment.bundle:
            return [self._tell(Phase.CONFIRMED, "", now_s)]
        if self.withdrawn is not None and assignment.bundle in self.withdrawn.bundles:
            return [self._tell(Phase.REFUSED, "withdrawn", now_s)]
        if assignment.counter < self.counter and not assignment.permit_downgrade:
            return [self._tell(Phase.REFUSED, "downgrade", now_s)]
        if assignment.shadow is not None and self.active is None:
            return [self._tell(Phase.REFUSED, "nothing-to-shadow", now_s)]
        # the other slot may hold it already, or it was a shadow: then nothing is downloaded
        lying = {
            self.last_good.bundle if self.last_good else "",
            before.bundle if before else "",
            self.brought,
        }
        is_here = assignment.bundle in lying
        ready_s = now_s + (0.0 if is_here else self.behaviour.download_s)
        usual = self.behaviour.always or (_good(assignment), "")
        self.brought = assignment.bundle if assignment.hold else None
        phase, code = self.behaviour.fails.get(assignment.bundle, usual)
        self._plan(ready_s, Phase.TRIAL, "")
        self._plan(ready_s + self.behaviour.check_s, phase, code)
        return [self._tell(Phase.RECEIVED if is_here else Phase.DOWNLOADING, "", now_s)]

    def _plan(self, at_s: float, phase: Phase, code: str) -> None:
        assert self.assignment is not None
        heapq.heappush(self._later, (at_s, next(self._order), self.assignment.number, phase, code))

    def _tell(self, phase: Phase, code: str, now_s: float) -> Outgoing:
        assert self.assignment is not None
        assigned = self.assignment
        self.progress = Progress(assignment=assigned.number, phase=phase, code=code)
        runs = None if self.active is None else self.active.bundle
        self.shadow = assigned if phase is Phase.SHADOW else None
        if phase is Phase.CONFIRMED and assigned.bundle is not None and assigned.bundle != runs:
            self.last_good = self.active
            self.active = ActiveModel(
                bundle=assigned.bundle,
                name=assigned.name or "model",
                version=assigned.version or "0",
                artifact="int8",
                runtime=RUNTIME,
            )
            self.counter = max(self.counter, assigned.counter)
        return self._state("status", now_s)

    def _state(self, kind: str, now_s: float) -> Outgoing:
        self._n += 1
        where = topic(self.fleet, self.id, Channel.HELLO if kind == "hello" else Channel.STATUS)
        state = DeviceState.model_validate(
            {
                "type": kind,
                "device": self.id,
                "n": self._n,
                "epoch": self.stream.epoch,
                "next_seq": self.stream.next_seq,
                "agent": AGENT,
                "profile": self._profile,
                "counter": self.counter,
                "active": self.active,
                "progress": self.progress,
                "time_ms": round(now_s * 1000),
                "knows": (Knows.SHADOW, Knows.HOLD, Knows.WITHDRAWN, Knows.DIRECTOR),
                "obeys": self._obedience.told,
                "withdrawn": self.withdrawn.n if self.withdrawn is not None else 0,
            }
        )
        return Outgoing(where, seal(state, where, self.key))


def _good(assignment: Assignment) -> Phase:
    """What an assignment comes to when all is well."""
    if assignment.hold:
        return Phase.READY
    return Phase.CONFIRMED if assignment.shadow is None else Phase.SHADOW
