"""The gates: each passes, fails and waits for the right reason, and none passes without evidence."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from math import comb

import pytest

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline, bin_index
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, Reading, StageEvidence, gather
from edge_fleet.gates import GATES, GateLimit, Outcome, Verdict, binomial_tail

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


def test_one_failed_canary_fails_the_installation() -> None:
    failed = dataclasses.replace(member(state=State.REFUSED), code="no-space", detail="needs 3 MB")
    verdict = ask("install_success", seen([failed]))
    assert verdict.outcome is Outcome.FAIL
    assert "cam-1 refused: no-space needs 3 MB" in verdict.reason


def test_failures_within_the_limit_do_not_fail_the_installation() -> None:
    members = [member(f"cam-{i}") for i in range(9)]
    one = ask("install_success", seen([*members, member("cam-9", State.ROLLED_BACK)]))
    assert one.outcome is Outcome.PASS  # 1 of 10 at a limit of 90 %
    two = ask("install_success", seen([*members[1:], *(member(d, State.REFUSED) for d in ("a", "b"))]))
    assert two.outcome is Outcome.FAIL


def test_the_installation_waits_for_devices_on_their_way_and_not_for_silent_ones() -> None:
    assert ask("install_success", seen([member(), member("b", State.TRIAL)])).outcome is Outcome.WAIT
    assert ask("install_success", seen([member(), member("b", State.UNREACHABLE)])).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("bad", "total", "outcome"),
    [
        (0, 400, Outcome.PASS),
        (4, 400, Outcome.PASS),
        (1, 1, Outcome.WAIT),  # one unlucky inference shows nothing: P = 0.02
        (2, 30, Outcome.WAIT),
        (10, 400, Outcome.WAIT),  # 2.5 % of 400 can be 2 % by chance
        (30, 400, Outcome.FAIL),
        (5, 5, Outcome.FAIL),  # five of five cannot
        (0, 199, Outcome.WAIT),  # too few to call good
    ],
)
def test_errors_fail_only_when_it_is_certain(bad: int, total: int, outcome: Outcome) -> None:
    verdict = ask("error_rate", seen([member()], new(inferences=total - bad, errors=bad)), limit=0.02)
    assert verdict.outcome is outcome, verdict.reason


def test_inputs_that_the_contract_refuses_count_as_errors() -> None:
    verdict = ask("error_rate", seen([member()], new(inferences=0, refused=400)))
    assert verdict.outcome is Outcome.FAIL


def test_a_broken_class_of_device_is_not_hidden_by_the_others() -> None:
    facts = {**FACTS, "sha256:tpu": BundleFacts("sha256:tpu", "coral-usb", BASELINE, 50.0)}
    coral = Member("tpu-1", 0, "sha256:tpu", None, State.CONFIRMED, 100.0)
    broken = Reading("tpu-1", "sha256:tpu", 110.0, 0, errors=50)
    evidence = gather([member(), coral], [new(inferences=1_000_000), broken], facts, 0, 90.0)
    verdict = ask("error_rate", evidence)
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("coral-usb: 50 of 50")


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
    evidence = seen([member()], new(latency_ms=latencies(after_ms)), old(latency_ms=latencies(before_ms)))
    assert ask("latency_p95", evidence, 1.5).outcome is outcome


def test_a_first_release_is_held_to_its_own_promise() -> None:
    first = [member(previous=None)]
    assert ask("latency_p95", seen(first, new(latency_ms=latencies(40.0)))).outcome is Outcome.PASS
    slow = ask("latency_p95", seen(first, new(latency_ms=latencies(60.0))))
    assert slow.outcome is Outcome.FAIL
    assert "50.00 ms (promised in the manifest)" in slow.reason


def test_a_few_slow_inferences_are_not_a_certain_p95() -> None:
    # 6 % of 400 are slow: the p95 is slow, but 5 % slow would show this as well
    mixed = QuantileSketch(bins={bin_index(10.0): 376, bin_index(90.0): 24})
    assert ask("latency_p95_ms", seen([member()], new(latency_ms=mixed)), 50.0).outcome is Outcome.WAIT
    slow = QuantileSketch(bins={bin_index(10.0): 300, bin_index(90.0): 100})
    assert ask("latency_p95_ms", seen([member()], new(latency_ms=slow)), 50.0).outcome is Outcome.FAIL


def test_latency_waits_for_enough_inferences() -> None:
    few = seen([member()], new(inferences=20, latency_ms=latencies(1.0, 20)))
    assert ask("latency_p95_ms", few, 50.0).outcome is Outcome.WAIT
    assert ask("latency_p95_ms", few, 50.0, least=20).outcome is Outcome.PASS


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


def test_one_site_in_many_does_not_undo_a_release_but_a_third_does() -> None:
    def fleet(drifting: int) -> StageEvidence:
        members = [member(f"cam-{i:02}") for i in range(20)]
        readings = [new(m.device, scalars=DARK if i < drifting else FITS) for i, m in enumerate(members)]
        return seen(members, *readings, old("other", scalars=FITS))

    alone = ask("drift", fleet(1))
    assert alone.outcome is Outcome.PASS
    assert "1 devices drift by themselves" in alone.reason
    assert ask("drift", fleet(7)).outcome is Outcome.FAIL


def test_drift_that_cancels_out_in_the_pool_is_seen_on_the_devices() -> None:
    low = {"input:x:mean": (200, 200, 0), "output:y:confidence": (200, 200)}
    high = {"input:x:mean": (0, 200, 200), "output:y:confidence": (200, 200)}
    evidence = seen([member("a"), member("b")], new("a", scalars=low), new("b", scalars=high))
    verdict = ask("drift", evidence)
    assert verdict.outcome is Outcome.FAIL
    assert "2 of 2 devices drift by themselves, such as a" in verdict.reason


def test_drift_waits_for_enough_inferences() -> None:
    few = {"input:x:mean": (10, 20, 10), "output:y:confidence": (20, 20)}
    assert ask("drift", seen([member()], new(inferences=40, scalars=few))).outcome is Outcome.WAIT
