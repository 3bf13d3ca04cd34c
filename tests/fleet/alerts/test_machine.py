"""The life of an alert: the table walked, hysteresis worked by hand, and what silence of evidence means."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from edge_fleet.alerts.machine import TRANSITIONS, Alert, Decision, Event, Finding, Phase, evaluate, step
from edge_fleet.alerts.rules import RULES, Rule, changed, differences
from edge_fleet.errors import Conflict, RequestInvalid

RULE = Rule("r", "warning", "", "", raise_at=10, clear_at=5, pending_s=10, calm_s=20)
EVIDENCED = replace(RULE, on_evidence=True)


def play(values: list[float | None], rule: Rule = RULE, start: Alert | None = None) -> list[Phase | None]:
    """The phase after each round; a round is ten seconds, None is a round without a finding."""
    alert, phases = start, list[Phase | None]()
    for number, value in enumerate(values):
        findings = [] if value is None else [Finding("r", "d", value, f"it is {value:g}")]
        open_ones = [alert] if alert is not None and alert.phase is not Phase.RESOLVED else []
        decisions = evaluate(open_ones, findings, {"r": rule}, 10_000 * number)
        alert = decisions[-1].alert if decisions else None
        phases.append(alert.phase if alert else None)
    return phases


P, F, R = Phase.PENDING, Phase.FIRING, Phase.RESOLVED


def test_every_pair_that_is_not_in_the_table_is_refused() -> None:
    for phase, event in itertools.product(Phase, Event):
        if (phase, event) in TRANSITIONS:
            assert step(phase, event) is TRANSITIONS[phase, event]
        else:
            with pytest.raises(Conflict, match=f"that is {phase} cannot be {event}"):
                step(phase, event)
    assert not any(phase is Phase.RESOLVED for phase, _ in TRANSITIONS), "resolved is the end"


def test_bad_for_long_enough_fires_and_good_for_long_enough_resolves() -> None:
    assert play([4, 10, 10, 3, 3, 3]) == [None, P, F, F, F, R]


def test_a_short_peak_never_fires() -> None:
    assert play([10, 4, 10, 4]) == [P, R, P, R]


def test_between_the_two_limits_it_stays_what_it_was() -> None:
    assert play([9, 9]) == [None, None], "never bad"
    assert play([10, 10, 7, 7, 7, 7, 7]) == [P, F, F, F, F, F, F], "never good"
    assert play([10, 10, 4, 7, 7]) == [P, F, F, F, R], "good once, and not bad since"


def test_a_relapse_starts_the_calm_anew() -> None:
    assert play([10, 10, 4, 10, 4, 4, 4]) == [P, F, F, F, F, F, R]


def test_without_a_finding_a_rule_on_evidence_waits_and_another_is_calm() -> None:
    assert play([10, 10, None, None, None, None], EVIDENCED) == [P, F, F, F, F, F]
    assert play([10, 10, None, None, None], RULE) == [P, F, F, F, R]


def test_a_rule_that_waits_for_nothing_fires_at_once() -> None:
    assert play([10], replace(RULE, pending_s=0)) == [F]


def fired(**changes: object) -> Alert:
    base = Alert("r", "d", "warning", Phase.FIRING, 12, "it was 12", {"n": 1}, since_ms=0, fired_ms=0, id=7)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_the_last_bad_case_is_kept_as_the_evidence() -> None:
    [decision] = evaluate([fired()], [Finding("r", "d", 3, "it is 3")], {"r": RULE}, 1000)
    assert (decision.alert.value, decision.alert.why, decision.alert.evidence) == (12, "it was 12", {"n": 1})
    [decision] = evaluate([fired()], [Finding("r", "d", 11, "it is 11", {"n": 2})], {"r": RULE}, 1000)
    assert (decision.alert.why, decision.alert.evidence) == ("it is 11", {"n": 2})


def test_a_silenced_alert_fires_again_when_the_silence_is_over_and_it_is_still_bad() -> None:
    silenced = fired(phase=Phase.SILENCED, silenced_ms=5000)
    bad = [Finding("r", "d", 12, "")]
    assert evaluate([silenced], bad, {"r": RULE}, 4999)[0].event is None
    assert evaluate([silenced], bad, {"r": RULE}, 5000)[0].event is Event.EXPIRED
    calm = replace(silenced, calm_ms=-20_000)
    assert evaluate([calm], [], {"r": RULE}, 5000)[0].event is Event.CALMED


def test_an_acknowledged_alert_resolves_by_itself_and_never_fires_again() -> None:
    known = fired(phase=Phase.ACKNOWLEDGED)
    assert evaluate([known], [Finding("r", "d", 99, "")], {"r": RULE}, 1000) == [
        Decision(replace(known, value=99, why="", evidence={}))
    ]
    assert evaluate([replace(known, calm_ms=0)], [], {"r": RULE}, 20_000)[0].alert.phase is Phase.RESOLVED


def test_a_rule_that_is_switched_off_opens_nothing_and_closes_what_is_open() -> None:
    off = {"r": replace(RULE, enabled=False)}
    assert evaluate([], [Finding("r", "d", 99, "")], off, 0) == []
    [decision] = evaluate([fired()], [Finding("r", "d", 99, "")], off, 0)
    assert decision.alert.phase is Phase.RESOLVED and "not in force" in decision.alert.why


def test_every_rule_can_clear_and_says_what_it_is_about() -> None:
    for name, rule in RULES.items():
        assert name == rule.name and rule.clear_at < rule.raise_at and rule.said and rule.unit


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"raise_at": 0}, "must clear below"),
        ({"raise_at": float("nan")}, "from 0 on"),
        ({"raise_at": "1"}, "give a number"),
        ({"raise_at": True}, "give a number"),
        ({"calm_s": -1}, "from 0 on"),
        ({"level": "loud"}, "warning or critical"),
        ({"enabled": 1}, "true or false"),
        ({"said": "x"}, "has no setting"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(changes: dict[str, object], told: str) -> None:
    with pytest.raises(RequestInvalid, match=told):
        changed(RULES["drift"], changes)


def test_only_what_was_changed_is_remembered() -> None:
    assert differences(changed(RULES["drift"], {"raise_at": 0.5, "calm_s": 1800.0})) == {"raise_at": 0.5}


# the table once more, a line for each phase: what is lost there or added is seen here
LINES = {
    "pending": "held firing, calmed resolved",
    "firing": "calmed resolved, acknowledged acknowledged, silenced silenced",
    "acknowledged": "calmed resolved, silenced silenced",
    "silenced": "calmed resolved, acknowledged acknowledged, silenced silenced, expired firing",
}


def test_what_can_become_of_an_alert_is_this_and_nothing_else() -> None:
    found: dict[str, set[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault(before.value, set()).add(f"{event.value} {after.value}")
    assert found == {phase: set(line.split(", ")) for phase, line in LINES.items()}
