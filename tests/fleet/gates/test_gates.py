"""The gates: each passes, fails and waits for the right reason, and none passes without evidence."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from math import comb

import pytest

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline, bin_index
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import GATES, Budget, GateLimit, Outcome, Verdict, binomial_tail
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading

NEW, OLD = "sha256:new", "sha256:old"
BASELINE = Baseline(
    samples=400,
    scalars=(
        ScalarBaseline(name="input:x:mean", edges=(0.0, 1.0), counts=(100, 200, 100)),
        ScalarBaseline(name="output:y:confidence", edges=(0.5,), counts=(200, 200)),
    ),
)
FACTS = {digest: BundleFacts(digest, "arm-cpu", BASELINE, 50.0) for digest in (NEW, OLD)}
FITS = {"input:x:mean": (100, 200, 100), "output:y:confidence": (200, 200)}
UNSURE = {"input:x:mean": (100, 200, 100), "output:y:confidence": (390, 10)}
DARK = {"input:x:mean": (390, 5, 5), "output:y:confidence": (200, 200)}


def member(device: str = "cam-1", state: State = State.CONFIRMED, previous: str | None = OLD) -> Member:
    return Member(device, 0, NEW, previous, state, assigned_s=100.0)


def latencies(ms: float, count: int = 400) -> QuantileSketch:
    return QuantileSketch(bins={bin_index(ms): count})


def ask(name: str, evidence: StageEvidence, limit: float | None = None, least: int = 200) -> Verdict:
    gate = GATES[name]
    chosen = limit if limit is not None else gate.default
    assert chosen is not None
    return gate.judge(evidence, GateLimit(limit=chosen, min_inferences=least))


def seen(members: list[Member], *readings: Reading) -> StageEvidence:
    return gather(members, readings, FACTS, 0, started_s=90.0)


def new(device: str = "cam-1", inferences: int = 400, **more: object) -> Reading:
    return dataclasses.replace(Reading(device, NEW, 110.0, inferences), **more)  # type: ignore[arg-type]


def old(device: str = "cam-2", inferences: int = 400, **more: object) -> Reading:
    return dataclasses.replace(Reading(device, OLD, 110.0, inferences), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(GATES))
def test_no_evidence_never_passes(name: str) -> None:
    gate = GATES[name]
    reports = [
        seen([]),
        seen([member(state=State.PENDING)]),
        seen([member(state=State.TRIAL)], new(inferences=0)),
        seen([member(state=State.UNREACHABLE)]),
    ]
    if name != "install_success":  # a confirmation is all that it asks for
        reports += [seen([member()]), seen([member(previous=None)], new(inferences=0))]
    for limit in (gate.lowest, gate.highest):
        for evidence in reports:
            verdict = gate.judge(evidence, GateLimit(limit=limit, min_inferences=1))
            assert verdict.outcome is not Outcome.PASS, verdict.reason


@pytest.mark.parametrize("name", sorted(GATES))
def test_every_verdict_names_its_gate_and_says_why_on_one_line(name: str) -> None:
    gate = GATES[name]
    limit = GateLimit(limit=gate.highest if gate.default is None else gate.default)
    for evidence in (seen([]), seen([member()], new(), old())):
        verdict = gate.judge(evidence, limit)
        assert verdict.gate == name
        assert verdict.reason and "\n" not in verdict.reason


def failed(device: str, code: str, detail: str = "") -> Member:
    return dataclasses.replace(member(device, State.REFUSED), code=code, detail=detail)


def test_one_canary_that_blames_the_release_fails_the_installation() -> None:
    verdict = ask("install_success", seen([failed("cam-1", "golden-mismatch", "3 of 10 agree")]))
    assert verdict.outcome is Outcome.FAIL
    assert "cam-1 refused: golden-mismatch 3 of 10 agree" in verdict.reason


def test_one_canary_without_space_shows_nothing_and_does_not_let_the_rollout_go_on() -> None:
    verdict = ask("install_success", seen([failed("cam-1", "no-space", "needs 3 MB")]))
    assert verdict.outcome is Outcome.WAIT
    assert "cam-1 refused: no-space needs 3 MB; e = 6.3, needs 1,000" in verdict.reason


def test_failures_within_the_limit_do_not_fail_the_installation() -> None:
    members = [member(f"cam-{i}") for i in range(10)]
    one = ask("install_success", seen([*members[:9], failed("a", "no-space")]))
    assert one.outcome is Outcome.PASS  # 1 of 10 at a limit of 90 %
    two = ask("install_success", seen([*members[:8], *(failed(d, "no-space") for d in "ab")]))
    assert two.outcome is Outcome.WAIT  # happens to 26 of 100 releases that are just good enough
    many = ask("install_success", seen([*members[:3], *(failed(d, "no-space") for d in "abcdefg")]))
    assert many.outcome is Outcome.FAIL  # to 1 of 110,000


def test_the_installation_waits_for_devices_on_their_way_and_not_for_silent_ones() -> None:
    assert ask("install_success", seen([member(), member("b", State.TRIAL)])).outcome is Outcome.WAIT
    assert ask("install_success", seen([member(), member("b", State.UNREACHABLE)])).outcome is Outcome.PASS


def spread(devices: int, windows: int, total: int, bad: int) -> StageEvidence:
    """So many windows of each of so many devices, alike."""
    names = [f"cam-{i:03}" for i in range(devices)]
    readings = [
        new(name, total - bad, errors=bad, received_s=110.0 + w) for name in names for w in range(windows)
    ]
    return seen([member(name) for name in names], *readings)


@pytest.mark.parametrize(
    ("devices", "windows", "total", "bad", "outcome"),
    [
        (1, 1, 400, 0, Outcome.PASS),
        (1, 1, 199, 0, Outcome.WAIT),  # too few to call good
        (1, 1, 400, 7, Outcome.WAIT),  # 1.75 % of 400 may as well be 3 %
        (1, 10, 4000, 40, Outcome.PASS),
        (1, 1, 5, 5, Outcome.WAIT),  # one window of one device
        (1, 8, 5, 5, Outcome.FAIL),  # eight windows in a row without an answer
        (1, 100, 50, 2, Outcome.WAIT),  # 4 % for ever, on one device: it may be the device
        (12, 1, 50, 2, Outcome.WAIT),
        (40, 1, 50, 2, Outcome.FAIL),  # on forty it is not
        (2, 1, 50, 50, Outcome.WAIT),
        (2, 8, 50, 50, Outcome.FAIL),
        (3, 1, 50, 50, Outcome.FAIL),
        (8, 1, 50, 10, Outcome.FAIL),
    ],
)
def test_errors_fail_only_when_it_is_certain(
    devices: int, windows: int, total: int, bad: int, outcome: Outcome
) -> None:
    verdict = ask("error_rate", spread(devices, windows, total, bad), limit=0.02)
    assert verdict.outcome is outcome, verdict.reason


def test_one_broken_device_among_many_does_not_undo_a_release() -> None:
    names = [f"cam-{i}" for i in range(20)]
    broken = [new("cam-0", 0, errors=50, received_s=110.0 + w) for w in range(20)]
    evidence = seen([member(name) for name in names], *broken, *(new(name) for name in names[1:]))
    assert ask("error_rate", evidence).outcome is Outcome.WAIT  # nor does it let it go on: 12 % fail
    assert ask("error_rate", spread(3, 20, 50, 50)).outcome is Outcome.FAIL


def test_a_device_that_failed_before_says_nothing_against_the_release() -> None:
    failing = [new(inferences=0, errors=50, received_s=110.0 + w) for w in range(8)]
    before = old("cam-1", 10, errors=90, received_s=50.0)
    assert ask("error_rate", seen([member()], *failing)).outcome is Outcome.FAIL
    assert ask("error_rate", seen([member()], *failing, before)).outcome is Outcome.WAIT


def test_windows_that_come_together_are_worth_fewer_inferences() -> None:
    apart = [
        new(inferences=100 - (w % 3 == 0), errors=int(w % 3 == 0), received_s=110.0 + w) for w in range(16)
    ]
    clump = [new(inferences=100, received_s=110.0 + w) for w in range(15)]
    clump.append(new(inferences=94, errors=6, received_s=125.0))
    one, other = (ask("error_rate", seen([member()], *rows), limit=0.01) for rows in (apart, clump))
    assert one.evidence[0]["bad"] == other.evidence[0]["bad"] == 6
    assert float(str(other.evidence[0]["effective"])) < 0.6 * float(str(one.evidence[0]["effective"]))


def test_errors_are_held_against_the_release_before() -> None:
    def fleet(before: int, after: int) -> Verdict:
        names = [f"cam-{i:03}" for i in range(10)]
        rows = [new(name, 400 - after, errors=after) for name in names]
        rows += [old(name, 400 - before, errors=before, received_s=50.0) for name in names]
        allowed = GateLimit(limit=0.02, against="before")
        return GATES["error_rate"].judge(seen([member(name) for name in names], *rows), allowed)

    assert fleet(before=60, after=60).outcome is Outcome.PASS  # 15 %, as before
    worse = fleet(before=4, after=60)
    assert worse.outcome is Outcome.FAIL
    assert "allowed 3.00% (1.00% before)" in worse.reason


def test_errors_are_held_against_a_control_group_at_the_same_time() -> None:
    def fleet(beside: int, after: int, controls: int = 60) -> Verdict:
        names = [f"cam-{i:03}" for i in range(20)]
        rows = [new(name, 400 - after, errors=after) for name in names]
        rows += [old(f"held-{i}", 400 - beside, errors=beside) for i in range(controls)]
        allowed = GateLimit(limit=0.02, against="control")
        return GATES["error_rate"].judge(seen([member(name) for name in names], *rows), allowed)

    assert fleet(beside=60, after=60).outcome is Outcome.PASS  # the network is bad for all
    assert fleet(beside=4, after=120).outcome is Outcome.FAIL
    alone = fleet(beside=0, after=120, controls=0)
    assert alone.outcome is Outcome.WAIT
    assert "0 in the control group, 200 needed" in alone.reason


def test_a_failure_that_the_control_group_shares_is_not_the_release() -> None:
    dark = [new(inferences=0, errors=50, received_s=110.0 + w) for w in range(10)]
    beside = [old(f"held-{i}", 0, errors=50, received_s=110.0 + w) for i in range(3) for w in range(10)]
    assert ask("error_rate", seen([member()], *dark)).outcome is Outcome.FAIL
    assert ask("error_rate", seen([member()], *dark, *beside)).outcome is Outcome.WAIT


def test_windows_with_noise_for_privacy_are_left_out_and_it_is_said() -> None:
    noisy = dataclasses.replace(new(inferences=0, errors=400), noisy=True)
    verdict = ask("error_rate", seen([member()], new(), noisy))
    assert verdict.outcome is Outcome.PASS
    assert "1 windows with noise for privacy are left out" in verdict.reason


def test_the_alpha_of_a_rollout_is_shared_by_gates_and_bundles() -> None:
    assert Budget.split(0.01, gates=5, bundles=2, stray=1e-4).alpha == pytest.approx(0.001)
    evidence = spread(8, 1, 50, 6)
    gate, limit = GATES["error_rate"], GateLimit(limit=0.02)
    lavish, thrifty = (gate.judge(evidence, limit, Budget(alpha=alpha)) for alpha in (0.002, 1e-9))
    assert (lavish.outcome, thrifty.outcome) == (Outcome.FAIL, Outcome.WAIT)
    assert lavish.evidence[0]["needed"] == 1000


def test_a_gate_waits_for_as_many_devices_as_the_plan_asks_for() -> None:
    allowed = GateLimit(limit=0.02, min_devices=3)
    assert GATES["error_rate"].judge(spread(2, 1, 400, 0), allowed).outcome is Outcome.WAIT
    assert GATES["error_rate"].judge(spread(3, 1, 400, 0), allowed).outcome is Outcome.PASS


def test_inputs_that_the_contract_refuses_count_as_errors() -> None:
    rows = [new(name, inferences=0, refused=400) for name in "abc"]
    assert ask("error_rate", seen([member(name) for name in "abc"], *rows)).outcome is Outcome.FAIL


def test_a_broken_class_of_device_is_not_hidden_by_the_others() -> None:
    facts = {**FACTS, "sha256:tpu": BundleFacts("sha256:tpu", "coral-usb", BASELINE, 50.0)}
    coral = [Member(f"tpu-{i}", 0, "sha256:tpu", None, State.CONFIRMED, 100.0) for i in range(3)]
    broken = [Reading(m.device, "sha256:tpu", 110.0, 0, errors=50) for m in coral]
    evidence = gather([member(), *coral], [new(inferences=1_000_000), *broken], facts, 0, 90.0)
    verdict = ask("error_rate", evidence)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("coral-usb: 150 of 150")
    assert [row["outcome"] for row in verdict.evidence] == ["pass", "fail"]


@pytest.mark.parametrize("share", [Fraction(1, 50), Fraction(1, 10), Fraction(1, 2)])
@pytest.mark.parametrize("total", [1, 7, 60])
def test_the_binomial_tail_is_that_of_exact_fractions(total: int, share: Fraction) -> None:
    for bad in range(total + 1):
        if bad <= total * share:
            assert binomial_tail(bad, total, float(share)) == 1.0
            continue
        exact = sum(comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(bad, total + 1))
        assert binomial_tail(bad, total, float(share)) == pytest.approx(float(exact), rel=1e-9)


def test_the_binomial_tail_stands_large_counts_and_the_ends() -> None:
    assert binomial_tail(1, 10**9, 0.0) == 0.0
    assert binomial_tail(10**6, 10**6, 1.0) == 1.0
    assert binomial_tail(0, 10, 0.0) == 1.0
    # normal approximation: 5 standard deviations above the mean, P = 2.87e-7
    assert binomial_tail(500_000 + 2500, 10**6, 0.5) == pytest.approx(2.87e-7, rel=0.02)


@pytest.mark.parametrize(
    ("before_ms", "after_ms", "outcome"),
    [
        (10.0, 10.0, Outcome.PASS),
        (10.0, 14.0, Outcome.PASS),
        (10.0, 30.0, Outcome.FAIL),
        (0.05, 0.5, Outcome.PASS),  # ten times, but below the noise of a scheduler
        (0.05, 5.0, Outcome.FAIL),
    ],
)
def test_latency_is_held_against_the_release_before(
    before_ms: float, after_ms: float, outcome: Outcome
) -> None:
    names = ("a", "b", "c")
    rows = [new(name, latency_ms=latencies(after_ms)) for name in names]
    rows += [old(name, latency_ms=latencies(before_ms), received_s=50.0) for name in names]
    evidence = seen([member(name) for name in names], *rows)
    assert ask("latency_p95", evidence, 1.5).outcome is outcome


def test_a_slow_device_is_held_to_what_it_did_before() -> None:
    def fleet(slow_ms: float) -> Verdict:
        names = ("a", "b", "c", "d", "slow")
        took = {name: 10.0 for name in names} | {"slow": 80.0}
        rows = [old(name, latency_ms=latencies(took[name]), received_s=50.0) for name in names]
        rows += [new(name, latency_ms=latencies(took[name])) for name in names[:-1]]
        rows.append(new("slow", latency_ms=latencies(slow_ms)))
        return ask("latency_p95", seen([member(name) for name in names], *rows), 1.5)

    assert fleet(80.0).outcome is Outcome.PASS
    assert fleet(200.0).outcome is Outcome.WAIT  # one device of five


def test_a_first_release_is_held_to_its_own_promise() -> None:
    first = [member("a", previous=None), member("b", previous=None), member("c", previous=None)]

    def fleet(ms: float) -> StageEvidence:
        return seen(first, *(new(m.device, latency_ms=latencies(ms)) for m in first))

    assert ask("latency_p95", fleet(40.0)).outcome is Outcome.PASS
    slow = ask("latency_p95", fleet(60.0))
    assert slow.outcome is Outcome.FAIL
    assert "50.00 ms (promised in the manifest)" in slow.reason


def test_a_few_slow_inferences_are_not_a_certain_p95() -> None:
    # 6 % of 400 are slow: the p95 is slow, but 5 % slow would show this as well
    mixed = QuantileSketch(bins={bin_index(10.0): 376, bin_index(90.0): 24})
    assert ask("latency_p95_ms", seen([member()], new(latency_ms=mixed)), 50.0).outcome is Outcome.WAIT
    slow = QuantileSketch(bins={bin_index(10.0): 300, bin_index(90.0): 100})
    names = [f"cam-{i}" for i in range(8)]
    many = seen([member(name) for name in names], *(new(name, latency_ms=slow) for name in names))
    assert ask("latency_p95_ms", many, 50.0).outcome is Outcome.FAIL


def test_the_slowest_hundredth_is_a_gate_of_its_own() -> None:
    mixed = QuantileSketch(bins={bin_index(10.0): 1920, bin_index(90.0): 80})  # 4 % are slow
    names = [f"cam-{i}" for i in range(8)]
    evidence = seen([member(name) for name in names], *(new(name, latency_ms=mixed) for name in names))
    assert ask("latency_p95_ms", evidence, 50.0).outcome is Outcome.PASS
    assert ask("latency_p99_ms", evidence, 50.0).outcome is Outcome.FAIL


def test_latency_waits_for_enough_inferences() -> None:
    few = seen([member()], new(inferences=100, latency_ms=latencies(1.0, 100)))
    assert ask("latency_p95_ms", few, 50.0).outcome is Outcome.WAIT
    assert ask("latency_p95_ms", few, 50.0, least=100).outcome is Outcome.PASS
    # 60 of 60 in time leave it open whether 94 of 100 would be: 0.95^60 is 0.046, for one look
    fewer = seen([member()], new(inferences=60, latency_ms=latencies(1.0, 60)))
    assert ask("latency_p95_ms", fewer, 50.0, least=20).outcome is Outcome.WAIT


@pytest.mark.parametrize(("agree", "outcome"), [(20, Outcome.PASS), (18, Outcome.PASS), (17, Outcome.FAIL)])
def test_golden_inputs_must_agree_in_service(agree: int, outcome: Outcome) -> None:
    evidence = seen([member()], new(golden_total=20, golden_agree=agree))
    assert ask("golden_agreement", evidence, 0.9).outcome is outcome


def test_live_numbers_like_the_baseline_pass() -> None:
    verdict = ask("drift", seen([member()], new(scalars=FITS), old(scalars=FITS)))
    assert verdict.outcome is Outcome.PASS, verdict.reason


def test_a_model_that_drifts_alone_fails() -> None:
    verdict = ask("drift", seen([member()], new(scalars=UNSURE), old(scalars=FITS)))
    assert verdict.outcome is Outcome.FAIL
    # |390/400 - 1/2| + |10/400 - 1/2|, halved
    assert "output:y:confidence is 0.47 from its baseline over 400 inferences" in verdict.reason


def test_a_model_that_drifts_together_with_the_control_group_waits() -> None:
    verdict = ask("drift", seen([member()], new(scalars=DARK), old(scalars=DARK)))
    assert verdict.outcome is Outcome.WAIT
    assert "so does the control group" in verdict.reason


def test_a_changed_world_does_not_excuse_what_only_the_new_model_shows() -> None:
    both = {**DARK, "output:y:confidence": UNSURE["output:y:confidence"]}
    verdict = ask("drift", seen([member()], new(scalars=both), old(scalars=DARK)))
    assert verdict.outcome is Outcome.FAIL
    assert "output:y:confidence" in verdict.reason


def test_a_first_release_that_drifts_fails() -> None:
    verdict = ask("drift", seen([member(previous=None)], new(scalars=UNSURE)))
    assert verdict.outcome is Outcome.FAIL
    assert "no release to compare with" in verdict.reason


def test_without_a_control_group_the_device_itself_before_is_the_control() -> None:
    earlier = old(device="cam-1", scalars=DARK, received_s=95.0)
    assert ask("drift", seen([member()], new(scalars=DARK), earlier)).outcome is Outcome.WAIT
    usual = dataclasses.replace(earlier, scalars=FITS)
    assert ask("drift", seen([member()], new(scalars=DARK), usual)).outcome is Outcome.FAIL


def test_a_canary_that_saw_a_world_of_its_own_before_is_not_held_against_the_release() -> None:
    beside = old("other", scalars=FITS)
    own = dataclasses.replace(old(device="cam-1", scalars=DARK), received_s=95.0)
    verdict = ask("drift", seen([member()], new(scalars=DARK), own, beside))
    assert verdict.outcome is Outcome.WAIT
    usual = dataclasses.replace(own, scalars=FITS)
    assert ask("drift", seen([member()], new(scalars=DARK), usual, beside)).outcome is Outcome.FAIL


def test_frames_of_a_few_scenes_are_no_proof_of_drift() -> None:
    """Each window shows one scene. Ten of twelve are dark, four of sixteen were: not one in a million."""
    dark, light = {"input:x:mean": (40, 0, 0)}, {"input:x:mean": (0, 20, 20)}
    was = [old(device="cam-1", scalars=dark if n % 4 == 0 else light, inferences=40) for n in range(16)]
    earlier = [dataclasses.replace(one, received_s=95.0) for one in was]
    scenes = [new(scalars=dark if n < 10 else light, inferences=40) for n in range(12)]
    verdict = ask("drift", seen([member()], *scenes, *earlier, old("other", scalars=FITS)))
    assert verdict.outcome is not Outcome.FAIL
    mixed = {"input:x:mean": (34, 3, 3)}  # the same counts in all, from windows that agree
    alike = [new(scalars=mixed, inferences=40) for _ in range(12)]
    calm = [dataclasses.replace(one, scalars={"input:x:mean": (10, 15, 15)}) for one in earlier]
    verdict = ask("drift", seen([member()], *alike, *calm, old("other", scalars=FITS)))
    assert verdict.outcome is Outcome.FAIL


def test_one_site_in_many_does_not_undo_a_release_a_third_holds_it_and_half_undo_it() -> None:
    def fleet(drifting: int) -> StageEvidence:
        members = [member(f"cam-{i:02}") for i in range(20)]
        readings = [new(m.device, scalars=DARK if i < drifting else FITS) for i, m in enumerate(members)]
        return seen(members, *readings, old("other", scalars=FITS))

    alone = ask("drift", fleet(1))
    assert alone.outcome is Outcome.PASS
    assert "1 of 20 devices drift by themselves" in alone.reason
    assert ask("drift", fleet(7)).outcome is Outcome.WAIT  # by chance once in 500 fleets where one in ten do
    assert ask("drift", fleet(10)).outcome is Outcome.FAIL


def test_drift_that_cancels_out_in_the_pool_is_seen_on_the_devices() -> None:
    low = {"input:x:mean": (200, 200, 0), "output:y:confidence": (200, 200)}
    high = {"input:x:mean": (0, 200, 200), "output:y:confidence": (200, 200)}

    def fleet(names: str) -> Verdict:
        rows = [new(name, scalars=low if i % 2 else high) for i, name in enumerate(names)]
        return ask("drift", seen([member(name) for name in names], *rows))

    verdict = fleet("abcdef")
    assert verdict.outcome is Outcome.FAIL
    assert "6 of 6 devices drift by themselves, such as a" in verdict.reason
    assert fleet("ab").outcome is Outcome.WAIT  # two sites may change their light


def test_drift_waits_for_enough_inferences() -> None:
    few = {"input:x:mean": (10, 20, 10), "output:y:confidence": (20, 20)}
    assert ask("drift", seen([member()], new(inferences=40, scalars=few))).outcome is Outcome.WAIT


def test_devices_that_saw_a_world_of_their_own_before_do_not_drift_by_themselves() -> None:
    members = [member(f"cam-{i:02}") for i in range(20)]
    readings = [new(m.device, scalars=DARK if i < 10 else FITS) for i, m in enumerate(members)]
    before = [dataclasses.replace(one, bundle=OLD, received_s=80.0) for one in readings]
    verdict = ask("drift", seen(members, *readings, *before, old("other", scalars=FITS)))
    assert verdict.outcome is not Outcome.FAIL, verdict.reason
    assert verdict.evidence[0]["devices_alone"] == 0


def test_drift_waits_for_as_many_devices_as_the_plan_asks_for() -> None:
    evidence = seen([member("a"), member("b")], new("a", scalars=FITS), new("b", scalars=FITS))
    for least, outcome in ((3, Outcome.WAIT), (2, Outcome.PASS)):
        assert GATES["drift"].judge(evidence, GateLimit(limit=0.15, min_devices=least)).outcome is outcome


def test_devices_whose_world_changed_with_the_control_groups_do_not_drift_by_themselves() -> None:
    members = [member(f"cam-{i:02}") for i in range(20)]
    readings = [new(m.device, scalars=DARK if i < 10 else FITS) for i, m in enumerate(members)]
    verdict = ask("drift", seen(members, *readings, old("other", scalars=DARK)))
    assert verdict.outcome is Outcome.WAIT
    assert "so does the control group" in verdict.reason
    assert verdict.evidence[0]["devices_alone"] == 0
