"""The engine under any interleaving of reports, silence, crashes and orders: what must hold, holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rollout_world import START_S, World

from edge_fleet import assignment
from edge_fleet.assignment import State
from edge_fleet.rollouts.phases import Event, Phase
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan

WALKS, STEPS = 150, 30
NIGHT = [{"begin": "22:00", "end": "04:00"}]
FAILURES = ("server-unreachable", "golden-mismatch", "crash", "no-space", "server-busy")


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START_S + seconds, UTC).isoformat()


def any_plan(pick: Callable[[Sequence[Any]], Any]) -> RolloutPlan:
    """A plan with any of the knobs turned.

    Args:
        pick: Chooses one of several.
    """
    plan: dict[str, Any] = {
        "format": "edgefleet.rollout/1",
        "release": "digits@2",
        "stages": pick(
            (["1", "50%", "100%"], ["2", "100%"], ["100%"], ["ring=canary", "100%"], ["30%", "60%"])
        ),
        "bake_s": pick((0, 60, 600)),
        "silence_s": pick((300, 3600)),
        "quorum": pick((0.5, 1.0)),
        "on_failure": pick(("rollback-rollout", "rollback-stage", "hold")),
        "on_deadline": pick(("stop", "rollback-rollout", "rollback-stage")),
        "retries": {"network": pick((0, 1, 2)), "golden": 1, "crash": 1, "shed": 1, "backoff_s": 30},
        "gates": {"error_rate": 0.02, "install_success": 0.5},
        # without one a rollout may wait for its quorum for ever, and may
        "deadline": at(pick((3600, 86_400, 7 * 86_400))),
        "join": pick(("never", "last-stage", "until-deadline")),
        "rate": pick((None, None, 1, 5, {"per_minute": 1, "factor": 2, "after": 1, "max_per_minute": 3})),
        "max_in_flight": pick((None, None, 1, 2)),
        "windows": pick(([], [], [], NIGHT)),
        "start_at": pick((None, None, None, at(1800))),
    }
    kind = pick(("staged", "staged", "shadow-first", "blue-green"))
    if kind == "blue-green":
        plan["kind"] = kind
        plan["blue_green"] = {"unable": pick(("skip", "switch"))}
    if kind == "shadow-first":
        plan["kind"] = kind
        plan["shadow"] = {"unable": pick(("skip", "switch")), "bake_s": pick((None, 0, 600))}
        plan["gates"]["shadow_agreement"] = 0.9
    return parse_plan(plan)


@st.composite
def plans(draw: st.DrawFn) -> RolloutPlan:
    """Any plan, as hypothesis chooses."""
    return any_plan(lambda choices: draw(st.sampled_from(choices)))


class AnyInterleaving(RuleBasedStateMachine):
    """Everything that can happen to one rollout, in any order."""

    world: World

    @initialize(plan=plans(), devices=st.integers(1, 7))
    def begin(self, plan: RolloutPlan, devices: int) -> None:
        self.world = World(plan, devices)
        self.world.order(Event.SCHEDULED if plan.start_at else Event.STARTED)

    def tick(self) -> None:
        """The conductor looks every second, whatever happens."""
        self.world.now_s += 1
        self.world.look()

    def one(self, pick: int) -> str | None:
        names = sorted(self.world.reached)
        return names[pick % len(names)] if names else None

    @rule(seconds=st.sampled_from((1, 1, 20, 61, 301, 4000, 20_000)), crash=st.booleans())
    def time_passes(self, seconds: int, crash: bool) -> None:
        self.world.now_s += seconds
        self.world.look(crash)
        self.world.look()
        self.tick()

    @rule(
        pick=st.integers(0, 99),
        event=st.sampled_from(("downloading", "trial", "received")),
        code=st.sampled_from(("", "server-busy")),
    )
    def device_gets_on(self, pick: int, event: str, code: str) -> None:
        if (device := self.one(pick)) is not None:
            self.world.say(device, assignment.Event(event), code)
        self.tick()

    @rule(picks=st.integers(0, 255))
    def devices_confirm(self, picks: int) -> None:
        for index, device in enumerate(sorted(self.world.reached)):
            if picks >> index & 1:
                self.world.say(device, assignment.Event.CONFIRMED)
        self.tick()

    @rule(pick=st.integers(0, 99), code=st.sampled_from(FAILURES), late=st.booleans())
    def device_fails(self, pick: int, code: str, late: bool) -> None:
        if (device := self.one(pick)) is not None:
            event = assignment.Event.ROLLED_BACK if late else assignment.Event.REFUSED
            self.world.say(device, event, code)
        self.tick()

    @rule(bad=st.sampled_from((False, False, False, True)))
    def devices_report(self, bad: bool) -> None:
        for device in sorted(self.world.reached):
            self.world.report(device, bad)
        self.world.now_s += 60  # a minute's worth: somebody may be due to begin as it arrives
        self.tick()

    @rule()
    def device_enrols(self) -> None:
        if len(self.world.devices) < 9:
            self.world.enrol()
        self.tick()

    @rule(pick=st.integers(0, 8))
    def another_rollout_takes_a_device(self, pick: int) -> None:
        device = f"cam-{pick % len(self.world.devices)}"
        if device not in self.world.reached:
            self.world.busy ^= {device}
        self.tick()

    @rule(event=st.sampled_from((Event.PAUSED, Event.RESUMED, Event.RESUMED)))
    def operator_pauses_or_resumes(self, event: Event) -> None:
        self.world.order(event)
        self.tick()

    @rule()
    def operator_advances(self) -> None:
        self.world.advance_by_hand()
        self.tick()

    @rule(event=st.sampled_from((Event.ABORTED, Event.RECALLED)), really=st.integers(0, 5))
    def operator_ends_it(self, event: Event, really: int) -> None:
        if not really:
            self.world.order(event)
        self.tick()

    @rule(pick=st.integers(0, 8), back=st.booleans())
    def operator_takes_a_device_out(self, pick: int, back: bool) -> None:
        device = f"cam-{pick % len(self.world.devices)}"
        if self.world.position.phase in (Phase.RUNNING, Phase.BAKING, Phase.OPEN):
            (self.world.take_back if back else self.world.skip)(device)
        self.tick()

    @invariant()
    def what_went_back_has_an_order_for_it(self) -> None:
        if hasattr(self, "world") and self.world.position.phase is Phase.ROLLED_BACK:
            assert all(row.back is not None for row in self.world.counted)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.run_to_the_end()


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def something_happens(machine: Any, random: Random) -> None:
    """One rule, each as likely as the others."""
    number, coin = random.randint(0, 255), random.random() < 0.5
    random.choice(
        (
            lambda: machine.time_passes(random.choice((1, 20, 61, 301, 4000)), coin),
            lambda: machine.devices_confirm(255),
            lambda: machine.device_gets_on(number, "downloading", random.choice(("", "server-busy"))),
            lambda: machine.devices_confirm(number),
            lambda: machine.devices_confirm(255),
            lambda: machine.device_fails(number, random.choice(FAILURES), coin),
            lambda: machine.devices_report(False),
            lambda: machine.devices_report(random.random() < 0.3),
            machine.device_enrols,
            lambda: machine.another_rollout_takes_a_device(number),
            lambda: machine.operator_pauses_or_resumes(Event.PAUSED if number < 80 else Event.RESUMED),
            machine.operator_advances,
            lambda: machine.operator_ends_it(Event.RECALLED, number % 12),
            lambda: machine.operator_takes_a_device_out(number, coin),
        )
    )()


def test_random_walks_of_the_same_machine_keep_the_same_invariants() -> None:
    """Hypothesis leaves rules out to find short stories; here every rule is as likely all the time."""
    for seed in range(WALKS):
        random = Random(seed)
        machine: Any = AnyInterleaving()
        machine.begin(any_plan(random.choice), random.randint(1, 7))
        for _ in range(STEPS):
            something_happens(machine, random)
            machine.what_went_back_has_an_order_for_it()
        machine.teardown()


def test_a_gate_that_failed_is_never_passed_by_hand() -> None:
    world = World(parse_plan(PLAN | {"stages": ["1", "100%"]}), 3)
    world.order(Event.STARTED)
    world.look()
    (device,) = world.reached
    world.say(device, assignment.Event.CONFIRMED)
    world.report(device, bad=True)
    world.advance_by_hand()
    assert world.position.stage == 0
    world.look()
    assert world.position.phase is Phase.ROLLING_BACK


PLAN: dict[str, Any] = {
    "format": "edgefleet.rollout/1",
    "release": "digits@2",
    "gates": {"error_rate": 0.02, "install_success": 0.5},
}


def test_a_silent_device_frees_its_place_in_flight() -> None:
    world = World(parse_plan(PLAN | {"stages": ["100%"], "max_in_flight": 1, "silence_s": 300}), 2)
    world.order(Event.STARTED)
    world.look()
    (first,) = world.reached
    world.now_s += 301
    world.look()
    world.look()
    assert world.reached[first].member.state is State.UNREACHABLE
    assert len(world.reached) == 2
