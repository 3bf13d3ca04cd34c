"""The environment in which `deploy/edge-agent.service` starts the agent, for benchmarks that do the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

UNIT = Path(__file__).parents[1] / "deploy" / "edge-agent.service"


def as_the_unit(environment: Mapping[str, str], place: Path) -> dict[str, str]:
    """An environment with what the shipped unit states, and byte code in a folder of the benchmark's own."""
    lines = [line for line in UNIT.read_text().splitlines() if line.startswith("Environment=")]
    stated = dict(word.split("=", 1) for line in lines for word in line.removeprefix("Environment=").split())
    if not stated.get("PYTHONPYCACHEPREFIX"):
        raise SystemExit(f"{UNIT.name} says nothing of byte code: this benchmark measures what it says")
    return {**environment, **stated, "PYTHONPYCACHEPREFIX": str(place / "bytecode")}
