"""A rollout in memory: the engine's steps applied to values, with what must hold checked on each.

The checks are written anew, in other words than the engine's: they count, they do not ask it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from edge_contracts.sketch import Baseline
from edge_fleet import assignment
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import GATES, Budget, Outcome
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading
from edge_fleet.rollouts import selector, targets
from edge_fleet.rollouts.decision import decide, passes
from edge_fleet.rollouts.engine import Step, View, advance, goes_back, lets_go
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import ENDED, GUARDED, RETURNING, TRANSITIONS, Event, Phase, Position, step
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.reached import Left, Reached
from edge_fleet.rollouts.retries import BACK_TRIES, back_name

NEW, OLD = "sha256:" + "1" * 64, "sha256:" + "2" * 64
START_S = 1_900_000_000.0  # a Sunday evening in 2030
OFFSET_H = {"UTC": 0, "Asia/Tokyo": 9, "America/Phoenix": -7}  # places where clocks do not change
FACTS = {
    digest: BundleFacts(digest, "arm-cpu", Baseline(samples=400, scalars=()), 50.0) for digest in (NEW, OLD)
}
PASSED = (Event.ADVANCED, Event.FINISHED, Event.OPENED, Event.SWITCHED)
# What a device says when all is well with what it was given.
GOOD = {
    Part.SWITCH: assignment.Event.CONFIRMED,
    Part.SHADOW: assignment.Event.SHADOW,
    Part.READY: assignment.Event.READY,
}


class World:
    """One rollout, its fleet and its clock."""

    def __init__(self, plan: RolloutPlan, devices: int) -> None:
        self.plan, self.now_s = plan, START_S
        self.position, self.why = Position(since_s=START_S), ""
        self.started_s: float | None = None
        self.reached: dict[str, Reached] = {}
        self.begun: list[tuple[float, str]] = []
        self.readings: list[Reading] = []
        self.skipped: set[str] = set()
        self.was_silent: set[tuple[str, int]] = set()
        self.busy: set[str] = set()
        self.devices: dict[str, targets.Device] = {}
        self.number = 0
        for _ in range(devices):
            self.enrol()

    def enrol(self) -> None:
        name = f"cam-{len(self.devices)}"
        labels = {
            "tz": list(OFFSET_H)[len(self.devices) % 3],
            "ring": "canary" if len(self.devices) < 2 else "b",
        }
        unable = "an old agent" if len(self.devices) % 4 == 3 else ""
        self.devices[name] = targets.Device(
            name, ("arm-cpu",), labels, active=OLD, enrolled_s=self.now_s, unable=unable, unready=unable
        )

    # what the engine sees

    def fleet(self) -> tuple[targets.Target, ...]:
        devices = []
        for device in self.devices.values():
            row = self.reached.get(device.id)
            runs_it = row is not None and row.member.state is State.CONFIRMED and row.back is None
            devices.append(
                replace(
                    device,
                    active=NEW if runs_it else OLD,
                    busy="r9" if device.id in self.busy else None,
                    skipped="left out" if device.id in self.skipped else "",
                )
            )
        release = targets.Release(2, {"arm-cpu": NEW})
        return targets.select(self.plan, selector.parse(self.plan.select), release, devices, self.started_s)

    def due(self) -> list[targets.Alike]:
        stage, counted = self.position.stage, [row.device for row in self.counted]
        held_back = self.plan.held_back(stage)
        found = targets.due("r1", self.plan.stages[stage], counted, self.fleet(), held_back)
        return targets.grouped("r1", found)

    def evidence(self, members: Sequence[Member]) -> StageEvidence:
        return gather(members, self.readings, FACTS, self.position.stage, self.started_s or 0.0)

    def view(self) -> View:
        recent = tuple(at for at, _ in self.begun if at > self.now_s - 60)
        return View("r1", self.plan, self.position, tuple(self.reached.values()), recent, self.why)

    @property
    def counted(self) -> list[Reached]:
        return [row for row in self.reached.values() if row.left is None]

    def look(self, crash: bool = False) -> None:
        """As the conductor does; a crash loses the step before it is stored."""
        for _ in range(50):
            found = advance(self.view(), self.now_s, self.due, self.evidence)
            self.check(found)
            if crash:
                return
            self.apply(found)
            if not found.looks_again:
                return
        raise AssertionError("the engine does not come to rest")

    def apply(self, found: Step) -> None:
        self.why = found.why or self.why
        for device in found.silent:
            self.was_silent.add((device, self.reached[device].number))
            self.say(device, assignment.Event.SILENT)
        for one in found.begin:
            self.number += 1
            row = self.reached.get(one.device)
            if row is not None and row.member.state is State.READY:
                self.was_silent.add((one.device, self.number))  # all at once: neither rate nor cap holds it
            else:
                self.begun.append((self.now_s, one.device))
            stage = self.position.stage if row is None else row.member.stage
            used = {} if row is None else dict(row.used)
            if one.cause is not None:
                used[one.cause] = used.get(one.cause, 0) + 1
            member = Member(one.device, stage, one.bundle, OLD, State.PENDING, self.now_s)
            self.reached[one.device] = Reached(
                member,
                self.number,
                changed_ms=round(self.now_s * 1000),
                last_seen_ms=None if row is None else row.last_seen_ms,
                used=used,
                labels=self.devices[one.device].labels,
                part=one.part,
            )
        for device, cause in found.back:
            used = dict(self.reached[device].used)
            name = back_name(cause)
            self.send_back(device)
            self.reached[device] = replace(self.reached[device], used=used | {name: used.get(name, 0) + 1})
        if found.event is not None:
            self.move(found.event)
        self.check_state()

    def move(self, event: Event) -> None:
        view = self.view()
        self.position = step(self.position, event, self.now_s, self.plan.first_part)
        if event is Event.STARTED:
            self.started_s = self.now_s
        for row in (*goes_back(view, self.position.phase), *lets_go(view, self.position.phase)):
            self.send_back(row.device)

    def send_back(self, device: str) -> None:
        self.number += 1
        self.reached[device] = replace(
            self.reached[device],
            back=self.number,
            back_state=State.PENDING,
            back_code="",
            changed_ms=round(self.now_s * 1000),
        )

    # what devices and operators do

    def say(self, device: str, event: assignment.Event, code: str = "") -> None:
        """A device speaks of the assignment in force, or has been silent."""
        row = self.reached[device]
        if event in GOOD.values() and row.back is None:
            event = GOOD[row.part]
        state = assignment.TRANSITIONS.get((row.state, event))
        if state is None:
            return
        now_ms = round(self.now_s * 1000)
        seen = row.last_seen_ms if event is assignment.Event.SILENT else now_ms
        changed = now_ms if state is not row.state else row.changed_ms
        row = replace(row, last_seen_ms=seen, changed_ms=changed)
        if row.back_state is None:
            row = replace(row, member=replace(row.member, state=state, code=code))
        else:
            row = replace(row, back_state=state, back_code=code)
        self.reached[device] = row

    def report(self, device: str, bad: bool) -> None:
        """A window of a device that runs the release, or runs it as a shadow."""
        row = self.reached[device]
        if row.member.state is State.SHADOW and row.back is None:
            beside = Reading(
                device, OLD, self.now_s, 10_000, shadow=NEW, compared=10_000, agreed=0 if bad else 10_000
            )
            self.readings += [beside] * (6 if bad else 1)
        if row.member.state is State.CONFIRMED and row.back is None:
            errors = 9000 if bad else 0
            # a gate believes a single device only after some windows
            one = Reading(device, NEW, self.now_s, 10_000 - errors, errors=errors)
            self.readings += [one] * (6 if bad else 1)

    def order(self, event: Event) -> bool:
        """An operator's order to the rollout; whether it is one now."""
        if (self.position.phase, event) not in TRANSITIONS:
            return False
        self.move(event)
        return True

    def advance_by_hand(self) -> None:
        if self.position.phase not in GUARDED - {Phase.OPEN}:
            return
        judged = decide(self.plan, self.position, self.evidence(self.view().members), self.now_s)
        if not any(verdict.outcome is Outcome.FAIL for verdict in judged.verdicts):
            event = passes(self.plan, self.position)
            self.check(Step(event=event), by_hand=True)
            self.order(event)

    def skip(self, device: str) -> None:
        row = self.reached.get(device)
        if row is not None and row.member.state is State.CONFIRMED:
            return
        self.skipped.add(device)
        if row is not None:
            self.reached[device] = replace(row, left=Left.SKIPPED)

    def take_back(self, device: str) -> None:
        row = self.reached.get(device)
        if row is not None and row.is_stuck:
            self.send_back(device)
        elif row is not None and row.left is None and row.back is None:
            self.send_back(device)
            self.skipped.add(device)
            self.reached[device] = replace(self.reached[device], left=Left.SENT_BACK)

    # what must hold

    def check(self, found: Step, by_hand: bool = False) -> None:
        """Of a step, before it is taken."""
        if found.event is Event.SWITCHED and not by_hand:
            self.check_switch()
        for one in found.begin:
            row = self.reached.get(one.device)
            assert one.device not in self.busy, "begun while another rollout has it"
            assert one.device not in self.skipped, "begun although an operator left it out"
            stage = self.position.stage if row is None else row.member.stage
            first = self.position.part is not Part.SWITCH and stage == self.position.stage
            assert one.part is (self.position.part if first else Part.SWITCH), "switched before its stage is"
            if one.part is not Part.SWITCH:
                assert not self.devices[one.device].unable, "asked for what it does not know"
            if row is not None:
                assert row.back is None, "given the release while it is going back"
            if row is not None and row.member.state in (State.SHADOW, State.READY):
                assert one.cause is None and row.part is not Part.SWITCH, "prepared for no reason"
            elif row is not None:
                assert row.part in (one.part, Part.READY), "what failed as a shadow is given to run"
                assert row.member.state in (State.REFUSED, State.ROLLED_BACK), "two at once on a device"
                budgets = self.plan.retries.model_dump()
                assert one.cause is not None, "begun again for no cause"
                assert row.used.get(one.cause, 0) < budgets[one.cause], "tried again beyond its budget"
            if self.plan.windows:
                self.check_window(one.device)
        for device, cause in found.back:
            row = self.reached[device]
            assert row.back_state in (State.REFUSED, State.ROLLED_BACK), "told twice to go back"
            assert row.used.get(back_name(cause), 0) < BACK_TRIES, "told to go back for ever"
            assert self.position.phase in RETURNING, "sent back by nobody"
        if found.begin or found.event in PASSED:
            assert not self.failing(), f"went on although {self.failing()} fail"
        if found.begin:
            assert self.position.phase in (Phase.RUNNING, Phase.BAKING, Phase.OPEN), "begun while it stands"
        if self.plan.deadline is not None and self.now_s > self.plan.deadline.timestamp():
            assert not found.begin, "begun after the deadline"

    def failing(self) -> list[str]:
        """The gates of the plan that fail, asked one by one."""
        if self.started_s is None:
            return []
        budget = Budget.split(self.plan.false_halt, len(self.plan.gates), 1, self.plan.stray)
        evidence = self.evidence(self.view().members)
        return [
            name
            for name, limit in self.plan.gates.items()
            if GATES[name].judge(evidence, limit, budget).outcome is Outcome.FAIL
        ]

    def check_switch(self) -> None:
        """Shadows are over by themselves only when enough of them were watched, and agree."""
        rows = [r for r in self.counted if r.member.stage == self.position.stage]
        if self.position.part is Part.READY:
            ready = sum(r.member.state is State.READY for r in rows)
            assert ready >= self.plan.quorum * len(rows) - 1e-9, "switched before a quorum was ready"
            return
        well = {r.device for r in rows if r.member.state is State.SHADOW}
        seen = {r.device for r in self.readings if r.shadow == NEW}
        expected = [r for r in rows if r.member.state not in (State.REFUSED, State.ROLLED_BACK)]
        assert len(well & seen) >= self.plan.quorum * len(expected) - 1e-9, "switched without a quorum"
        if rows:
            assert self.now_s >= self.position.since_s + self.plan.bake_of(self.position.stage, Part.SHADOW)
            budget = Budget.split(self.plan.false_halt, len(self.plan.gates), 1, self.plan.stray)
            limit = self.plan.gates["shadow_agreement"]
            judged = GATES["shadow_agreement"].judge(self.evidence(self.view().members), limit, budget)
            assert judged.outcome is Outcome.PASS, f"switched although {judged.reason}"

    def check_window(self, device: str) -> None:
        offset = timedelta(hours=OFFSET_H[self.devices[device].labels["tz"]])
        local = datetime.fromtimestamp(self.now_s, UTC) + offset
        assert local.hour >= 22 or local.hour < 4, f"begun at {local:%H:%M} of its own clock"

    def check_state(self) -> None:
        """Of what is stored, after a step."""
        if self.position.phase in ENDED:
            for row in self.counted:
                left = row.part is not Part.SWITCH and row.back is None and row.state not in assignment.FAILED
                assert not left, "what was prepared stays after the end"
        rate = self.plan.rate
        if rate is not None:
            ceiling = rate.per_minute if rate.factor == 1 else rate.max_per_minute or math.inf
            for at, _ in self.begun:
                assert sum(at - 60 < other <= at for other, _ in self.begun) <= ceiling, "beyond the rate"
        if self.plan.max_in_flight is not None:
            open_states = (State.PENDING, State.OFFERED, State.DOWNLOADING, State.TRIAL)
            # one that was silent has freed its place, and may come back to find it taken
            flying = sum(
                r.member.state in open_states
                and r.back is None
                and (r.device, r.number) not in self.was_silent
                for r in self.counted
            )
            assert flying <= self.plan.max_in_flight, f"{flying} devices in flight"
        if self.position.phase in (Phase.RUNNING, Phase.BAKING) and self.position.stage >= 0:
            stage = self.plan.stages[self.position.stage]
            selected = len(self.counted) + sum(
                t.bundle is not None and t.device not in self.reached for t in self.fleet()
            )
            share = stage.count if stage.count is not None else None
            if stage.percent is not None:
                share = math.ceil(round(stage.percent * selected / 100, 6))
            # devices that were left out since may have made the share smaller than what was reached
            if share is not None and not self.skipped:
                earlier = [s.count or 0 for s in self.plan.stages[: self.position.stage + 1]]
                assert len(self.counted) <= max([share, *earlier]), "beyond the stage's share"

    def run_to_the_end(self) -> None:
        """Everybody cooperates and time passes: it must come to an end, or to an operator's turn."""
        self.busy.clear()
        said: set[tuple[str, Part]] = set()
        for looks in range(150):
            if self.position.phase is Phase.PAUSED:
                self.order(Event.RESUMED)
            if self.position.phase in ENDED | {Phase.DRAFT, Phase.HELD}:
                return
            for row in list(self.reached.values()):
                self.say(row.device, assignment.Event.CONFIRMED)
                if (row.device, row.part) not in said:
                    self.report(row.device, bad=False)
                    said.add((row.device, row.part))
            self.now_s += 600 if looks < 50 else 6 * 3600
            self.look()
        raise AssertionError(f"it does not end: {self.position}, {self.why}")
