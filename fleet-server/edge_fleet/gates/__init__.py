"""The gates: questions about a stage's evidence, each answered with PASS, FAIL or WAIT and why.

No evidence is WAIT. Gates are asked every second for as long as a stage bakes, so both answers rest on
tests that hold at any look: FAIL at a stated chance of a false halt for the whole rollout, which all
gates and bundles share (`shares.py`, `betting.py`), PASS when what is possible is below the limit.
To add a gate, write a function in a module here and decorate it; plans then know it by its name.
"""

from edge_fleet.gates import doubt, drift, install, latency, rates, resources
from edge_fleet.gates.binomial import FALSE_ALARM, binomial_tail
from edge_fleet.gates.registry import GATES, Gate
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome, Verdict

__all__ = [
    "FALSE_ALARM",
    "GATES",
    "Budget",
    "Finding",
    "Gate",
    "GateLimit",
    "Outcome",
    "Verdict",
    "binomial_tail",
    "doubt",
    "drift",
    "install",
    "latency",
    "rates",
    "resources",
]
