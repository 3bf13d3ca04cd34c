from __future__ import annotations

import json
from collections import Counter

from simulated_devices import identity

from edge_fleet.simulation.counts import Counts
from edge_fleet.simulation.kinds import KINDS
from edge_fleet.simulation.verdicts import Answers, Verdict, as_dict, judge, lines, rows

ALL_TAKEN = Counts(envelopes=5, acknowledged=5)


def test_an_honest_device_that_is_refused_is_harmed() -> None:
    honest = KINDS["honest"]
    assert judge(honest, ALL_TAKEN, {}, set(), {})[0] is Verdict.UNHARMED
    assert judge(honest, ALL_TAKEN, {"replayed": 1}, set(), {}) == (Verdict.HARMED, "refused: replayed 1")
    lost = Counts(envelopes=5, acknowledged=4)
    assert judge(honest, lost, {}, set(), {})[1] == "1 of 5 envelopes are not acknowledged"


def test_a_forger_is_caught_when_it_was_refused_and_there_is_an_alert() -> None:
    forged, reasons = KINDS["forged"], {"signature-invalid": 5}
    assert judge(forged, ALL_TAKEN, reasons, {"bad-signature"}, {})[0] is Verdict.CAUGHT
    assert judge(forged, ALL_TAKEN, {}, {"bad-signature"}, {}) == (Verdict.NOT_YET, "no signature-invalid")
    assert judge(forged, ALL_TAKEN, reasons, {"gap"}, {})[1] == "the alert bad-signature is not there"
    assert judge(forged, ALL_TAKEN, reasons, {"bad-signature (pending)"}, {})[1].endswith("is pending")


def test_a_device_that_fails_golden_is_caught_by_where_its_installation_ends() -> None:
    golden = KINDS["golden"]
    assert judge(golden, ALL_TAKEN, {}, set(), {"refused": 1})[0] is Verdict.CAUGHT
    assert "roll a release out" in judge(golden, ALL_TAKEN, {}, set(), {"confirmed": 1})[1]


def test_only_what_came_in_this_run_and_in_its_own_name_counts() -> None:
    identities = [identity("forged", "a"), identity("honest", "b")]
    before = Answers({("a", "signature-invalid"): 3})
    after = Answers(
        {("a", "signature-invalid"): 5, ("b", "format-invalid"): 1, ("other", "replayed"): 9},
        {("bad-signature", "a"): "firing", ("gap", "other"): "firing"},
        {},
        {"b": "confirmed"},
    )
    told = {"forged": Counts(ended=Counter({"rolled_back": 1}))}
    honest, forged = rows(identities, told, before, after)
    assert (honest.kind, honest.refused, honest.alerts) == ("honest", {"format-invalid": 1}, ())
    assert (forged.refused, forged.alerts, forged.verdict) == (
        {"signature-invalid": 2},
        ("bad-signature",),
        Verdict.CAUGHT,
    )
    assert (honest.phases, forged.phases) == ({"confirmed": 1}, {"rolled-back": 1})
    assert lines([forged])[1][:2] == ("forged", "1")
    told_to_a_program = json.loads(json.dumps(as_dict(forged)))
    assert told_to_a_program["ended"] == {"rolled_back": 1}
    assert told_to_a_program["installations"] == {"rolled-back": 1}


def test_an_alert_about_many_devices_counts_for_those_that_it_names() -> None:
    after = Answers({}, {("drift", "sha256:1"): "firing"}, {"drift": frozenset({"a"})})
    drifts, other = rows([identity("drifts", "a"), identity("together", "c")], {}, Answers(), after)
    assert drifts.verdict is Verdict.CAUGHT
    assert other.verdict is Verdict.NOT_YET
