"""The verdict on a trial with live inputs."""

from __future__ import annotations

import pytest

from edge_agent.updates.health import PATIENCE, STUCK_S, Rules, Verdict, Vitals, judge

RULES = Rules(window_s=10, inferences=20)


def verdict(
    elapsed_s: float, answered: int, failed: int = 0, refused: int = 0, golden: bool = True
) -> Verdict:
    return judge(Vitals(elapsed_s, answered, failed, refused, golden), RULES, max_error_rate=0.1).verdict


@pytest.mark.parametrize(
    ("elapsed_s", "answered", "failed", "expected"),
    [
        (0, 0, 0, Verdict.WAIT),
        (9.9, 1000, 0, Verdict.WAIT),  # long enough counts too
        (10, 19, 0, Verdict.WAIT),  # and so does often enough
        (10, 20, 0, Verdict.HEALTHY),
        (10, 18, 2, Verdict.HEALTHY),  # 10 % is allowed
        (10, 17, 3, Verdict.UNHEALTHY),
        (1, 0, 2, Verdict.WAIT),  # 2 of 20 would still be allowed
        (1, 0, 3, Verdict.UNHEALTHY),  # 3 of 20 would not: nothing to wait for
        (1, 970, 30, Verdict.WAIT),
        (10, 970, 30, Verdict.HEALTHY),
        (1, 800, 200, Verdict.UNHEALTHY),
    ],
)
def test_time_number_and_failures_decide(
    elapsed_s: float, answered: int, failed: int, expected: Verdict
) -> None:
    assert verdict(elapsed_s, answered, failed) is expected


def test_a_model_that_refuses_everything_is_not_healthy() -> None:
    assert verdict(1, answered=0, refused=19) is Verdict.WAIT
    assert verdict(1, answered=0, refused=20) is Verdict.UNHEALTHY
    assert verdict(10, answered=20, refused=500) is Verdict.HEALTHY


def test_golden_inputs_that_disagree_in_this_process_end_the_trial() -> None:
    assert verdict(0, answered=0, golden=False) is Verdict.UNHEALTHY


def test_a_device_without_inputs_is_confirmed_on_its_golden_inputs_after_a_while() -> None:
    assert verdict(10 * PATIENCE - 0.1, answered=0) is Verdict.WAIT
    assert verdict(10 * PATIENCE, answered=0) is Verdict.HEALTHY


def test_a_finding_says_what_was_found_and_what_is_allowed() -> None:
    finding = judge(Vitals(10, 17, 3, 0, True), RULES, max_error_rate=0.1)
    assert (finding.code, finding.detail) == ("error-rate", "3 of 20 inferences failed, allowed are 10.00%")


def test_a_model_that_hangs_is_unhealthy_however_long_it_was_well() -> None:
    well = Vitals(1000, 1000, 0, 0, True, stuck_s=STUCK_S - 1)
    assert judge(well, RULES, 0.1).verdict is Verdict.HEALTHY
    hangs = judge(Vitals(1000, 1000, 0, 0, True, stuck_s=STUCK_S), RULES, 0.1)
    assert (hangs.verdict, hangs.code) == (Verdict.UNHEALTHY, "hang")
    silent = judge(Vitals(PATIENCE * 10, 0, 0, 0, True, stuck_s=PATIENCE * 10), RULES, 0.1)
    assert silent.verdict is Verdict.HEALTHY, "30 s are no hang yet, by these rules"
