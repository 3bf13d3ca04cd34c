"""The JSON Schema of plans, for editors and for whoever writes plans by program. Pure."""

from __future__ import annotations

from typing import Any

from edge_fleet.gates import GATES
from edge_fleet.rollouts.plan import DEFAULT_STAGES, FORMAT, RolloutPlan

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILE = "rollout.schema.json"


def plan_schema() -> dict[str, Any]:
    """The schema of the documents that `parse_plan` reads, short forms and gates by name included.

    What only all fields together decide (stages that grow, a deadline after the start) is left to the reader.
    """
    schema = RolloutPlan.model_json_schema()
    limit = schema["$defs"].pop("GateLimit")
    schema["properties"]["gates"] = {
        "type": "object",
        "description": RolloutPlan.model_fields["gates"].description,
        "additionalProperties": False,
        "properties": {
            name: {
                "description": f"{gate.unit}; {gate.lowest:g} to {gate.highest:g}",
                "anyOf": [
                    {"type": "number", "minimum": gate.lowest, "maximum": gate.highest},
                    limit,
                ],
            }
            for name, gate in sorted(GATES.items())
        },
    }
    # a kind may bring the stages
    schema["required"] = [name for name in schema["required"] if name != "stages"]
    schema["anyOf"] = [
        {"required": ["stages"]},
        {"properties": {"kind": {"enum": sorted(DEFAULT_STAGES)}}, "required": ["kind"]},
    ]
    # TOML and YAML 1.1 have times that are no strings: they come here as strings
    return {"$schema": DIALECT, "title": f"A rollout plan, {FORMAT}", **schema}
