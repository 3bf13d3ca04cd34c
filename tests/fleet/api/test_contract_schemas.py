"""Contracts in answers are named once among the components, and leave room for fields to come."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from edge_contracts import json_schema
from edge_contracts.manifest import Provenance
from edge_contracts.messages import ActiveModel
from edge_fleet.api.contract_schemas import name_contracts
from edge_fleet.written import MARK, Written


class Answer(TypedDict):
    active: Annotated[dict[str, Any], Written(ActiveModel)] | None
    others: list[Annotated[dict[str, Any], Written(ActiveModel)]]
    made: Annotated[dict[str, Any], Written(Provenance)]


def test_each_contract_is_a_component_with_all_that_it_is_made_of() -> None:
    schema = TypeAdapter(Answer).json_schema()
    document: dict[str, Any] = {"components": {"schemas": {"Answer": schema}}}
    name_contracts(document)
    schemas = document["components"]["schemas"]
    assert set(schemas) == {"Answer", "ActiveModel", "Provenance", "Material"}
    fields = schemas["Answer"]["properties"]
    assert fields["active"]["anyOf"][0] == {"$ref": "#/components/schemas/ActiveModel"}
    assert fields["others"]["items"] == {"$ref": "#/components/schemas/ActiveModel"}
    materials = schemas["Provenance"]["properties"]["materials"]
    assert materials["items"] == {"$ref": "#/components/schemas/Material"}
    assert MARK not in json.dumps(document) and "$defs" not in json.dumps(document)


def test_what_a_device_refuses_a_client_may_skip() -> None:
    document: dict[str, Any] = {
        "components": {"schemas": {}},
        "x": {MARK: "edge_contracts.manifest:Provenance"},
    }
    name_contracts(document)
    found = document["components"]["schemas"]["Provenance"]
    own = json_schema.definitions([Provenance])["Provenance"]
    assert own["additionalProperties"] is False and "additionalProperties" not in found
    assert found["required"] == own["required"]
    # a mapping of names to values is none of that
    assert found["properties"]["tools"] == own["properties"]["tools"]
