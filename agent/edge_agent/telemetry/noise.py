"""Discrete Laplace noise by OpenDP, in a process of its own: its library takes 100 MB while it is loaded.

    python -m edge_agent.telemetry.noise  <  {"values": [...], "sensitivity": 4, "epsilon": 0.1}

OpenDP samples exactly, without floating-point numbers, whose rounding can give values away (Mironov, CCS
2012), and itself says what a measurement costs; what it says is checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from edge_agent.errors import NoiseFailed
from edge_contracts.errors import MissingExtra

TIMEOUT_S = 120.0
SLACK = 1e-9  # of the scale's rounding


def require() -> None:
    """Refuse to go on without the library.

    Raises:
        MissingExtra: It is not installed.
    """
    if find_spec("opendp") is None:
        raise MissingExtra("differential privacy needs opendp; pip install 'edgefleet[privacy]'")


def add_noise(values: Sequence[int], sensitivity: int, epsilon: float) -> list[int]:
    """The values with noise, so that together they cost epsilon.

    Args:
        sensitivity: How much all values together can change by one person (L1).

    Raises:
        NoiseFailed: The child did not do it; nothing may be published then.
    """
    job = json.dumps({"values": list(values), "sensitivity": sensitivity, "epsilon": epsilon})
    command = [sys.executable, "-m", "edge_agent.telemetry.noise"]
    try:
        done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoiseFailed(f"no noise was made: {error}") from None
    try:
        noisy = [int(value) for value in json.loads(done.stdout)]
    except (ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise NoiseFailed(f"no noise was made: {last:.200}") from None
    if done.returncode != 0 or len(noisy) != len(values):
        raise NoiseFailed(f"no noise was made: {len(noisy)} values for {len(values)}")
    return noisy


def main() -> None:
    """The child."""
    import opendp.prelude as dp

    job = json.load(sys.stdin)
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)
    measurement = dp.m.make_laplace(*space, scale=job["sensitivity"] / job["epsilon"])
    if measurement.map(job["sensitivity"]) > job["epsilon"] * (1 + SLACK):
        raise SystemExit("the noise would cost more than it may")
    print(json.dumps(measurement([int(value) for value in job["values"]])))


if __name__ == "__main__":
    main()
