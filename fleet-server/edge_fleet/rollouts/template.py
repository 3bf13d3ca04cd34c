"""A plan to begin with: every field with its description, all but the needed ones commented out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edge_fleet.gates import GATES, GateLimit
from edge_fleet.rollouts.plan import DEFAULT_STAGES, FORMAT, Kind, RolloutPlan, default_gates
from edge_fleet.rollouts.plan_schema import FILE

# Where the default says little, what a person would write.
_EXAMPLES: dict[str, Any] = {
    "select": "profile=arm-cpu,site=lab",
    "rate": {"per_minute": 50, "factor": 2, "after": 100, "max_per_minute": 1000},
    "shadow": {"share": 0.1, "cpu": 0.1, "memory_mb": 256, "latency_ms": 2000, "unable": "skip"},
    "blue_green": {"unable": "skip"},
    "experiment": {"name": "taste", "share": 0.2},
    "max_in_flight": 200,
    "windows": [{"begin": "22:00", "end": "04:00", "days": ["mon", "tue", "wed", "thu"]}],
    "time_zone": "Europe/Berlin",
    "start_at": "2030-01-31T20:00:00+01:00",
    "deadline": "2030-02-28T06:00:00+01:00",
}
_PLAIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 _./@=%+-]*$")  # all else is quoted
_STAGES = ["ring=canary", "10%", "100%"]


def template(release: str = "NAME@VERSION", kind: Kind = Kind.STAGED) -> str:
    """The text of a new plan; it is one when the release has been filled in."""
    lines = [
        f"# yaml-language-server: $schema={FILE}",
        f"# (edge-fleet rollout schema > {FILE}; editors then complete and check this file)",
        "# Check it: edge-fleet rollout plan FILE. Start it: edge-fleet rollout create --plan FILE --start",
    ]
    given: dict[str, Any] = {"format": FORMAT, "release": release, "kind": str(kind)}
    if kind is Kind.AB:
        given["experiment"] = _EXAMPLES["experiment"]
    if kind is Kind.SHADOW_FIRST:
        given["shadow"] = _EXAMPLES["shadow"]
    if kind is Kind.BLUE_GREEN:
        given["blue_green"] = _EXAMPLES["blue_green"]
    given["stages"] = list(DEFAULT_STAGES.get(kind, _STAGES))
    for name, field in RolloutPlan.model_fields.items():
        lines += ["", f"# {field.description}"]
        if name == "gates":
            mark = "# "
            if kind is Kind.SHADOW_FIRST:
                mark, agreement = "", GATES["shadow_agreement"]
                lines += ["gates:", f"  {agreement.name}: 0.9  # {agreement.unit}"]
            else:
                lines += ["# Left out: all of those that follow.", "# gates:"]
            lines += [
                f"{mark}  {gate.name}: {gate.default:g}  # {gate.unit}"
                for gate in GATES.values()
                if gate.default is not None
            ]
        elif name in given:
            lines.append(f"{name}: {_flow(given[name])}")
        else:
            default = field.get_default(call_default_factory=False)
            shown = _EXAMPLES.get(name, default.model_dump() if hasattr(default, "model_dump") else default)
            lines.append(f"# {name}: {_flow(shown)}")
    return "\n".join(lines) + "\n"


def written(fields: Mapping[str, Any]) -> str:
    """A plan of these fields, one a line, gates below each other."""
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping) and name == "gates":
            lines += [f"{name}:" if value else f"{name}: {{}}"]
            lines += [f"  {gate}: {_flow(limit)}" for gate, limit in value.items()]
        else:
            lines.append(f"{name}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def again(plan: RolloutPlan) -> str:
    """The text of a plan that was made before, without what is as it would be anyway."""
    given = plan.model_dump(mode="json", exclude_defaults=True)
    stages = [
        str(stage) if stage.bake_s is None else stage.model_dump(mode="json", exclude_none=True)
        for stage in plan.stages
    ]
    gates = {
        name: limit.limit if limit == GateLimit(limit=limit.limit) else limit.model_dump(exclude_none=True)
        for name, limit in plan.gates.items()
    }
    if plan.gates == default_gates():
        given.pop("gates", None)
    else:
        given["gates"] = gates
    return written({"format": FORMAT, **given, "stages": stages})


def _flow(value: Any) -> str:
    """A value in YAML's flow style, plain where that is safe."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(one) for one in value) + "]"
    if isinstance(value, str) and _PLAIN.match(value):
        return value
    return json.dumps(value)
