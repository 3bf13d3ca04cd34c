"""The signed statement: in-toto's and SLSA's own types read it, and it names all that went in."""

from __future__ import annotations

import json

import pytest
import samples
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance as SlsaMessage
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from edge_contracts import statement
from edge_contracts.digest import digest_of
from edge_contracts.errors import SignatureInvalid
from edge_contracts.manifest import Manifest, Material
from edge_contracts.model import canonical_json

MATERIALS = [
    {"role": "source", "name": "digits.onnx", "digest": digest_of(b"source"), "bytes": 6,
     "uri": "models:/digits/3", "annotations": {"run": "abc"}},
    {"role": "recipe", "name": "wf32", "digest": digest_of(b"recipe"), "bytes": 6},
]  # fmt: skip


def manifest(**provenance: object) -> Manifest:
    return samples.manifest(provenance=samples.manifest_fields()["provenance"] | provenance)


def test_the_types_of_in_toto_and_slsa_accept_it() -> None:
    made = statement.make(manifest(materials=MATERIALS), "manifest.json", {"machine": "x86_64"})
    Statement.copy_from_pb(json_format.ParseDict(made, StatementMessage())).validate()
    predicate = {k: v for k, v in made["predicate"].items() if not k.startswith("edgefleet_")}
    slsa = json_format.ParseDict(predicate, SlsaMessage())
    assert slsa.build_definition.build_type and slsa.run_details.builder.id
    named = {d.name: dict(d.digest) for d in slsa.build_definition.resolved_dependencies}
    assert named["digits.onnx"] == {"sha256": digest_of(b"source").removeprefix("sha256:")}
    assert slsa.build_definition.resolved_dependencies[0].uri == "models:/digits/3"
    assert dict(slsa.run_details.builder.version) == {"edgefleet": "0.1.0"}


def test_slsas_types_refuse_a_field_that_they_do_not_know() -> None:
    # what the test above would not see without this
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({"buildDefinitions": {}}, SlsaMessage())


def test_tools_are_named_by_package_urls() -> None:
    made = statement.make(manifest(tools={"edgefleet": "1", "torch": "2.13.0+cpu"}), "manifest.json", {})
    uris = [d.get("uri") for d in made["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert "pkg:pypi/torch@2.13.0%2Bcpu" in uris
    assert not any("edgefleet" in (uri or "") for uri in uris)


def test_a_manifest_without_materials_still_says_what_went_in() -> None:
    found = statement.materials_of(manifest().provenance)
    assert [(m.role, m.digest) for m in found] == [
        ("source", digest_of(b"source")),
        ("calibration", digest_of(b"calibration")),
    ]


def test_materials_that_are_not_there_change_no_byte_of_a_manifest() -> None:
    # the digest of a manifest names its bundle: one written before the field came must keep its own
    assert b"materials" not in canonical_json(manifest())
    with_them = canonical_json(manifest(materials=MATERIALS))
    assert Material.model_validate(json.loads(with_them)["provenance"]["materials"][0]).uri


@pytest.mark.parametrize("kind", sorted({statement.PREDICATE_TYPE, *statement.EARLIER_PREDICATE_TYPES}))
def test_statements_of_this_and_earlier_releases_are_read(kind: str) -> None:
    made = statement.make(manifest(), "manifest.json", {}) | {"predicateType": kind}
    assert "manifest.json" in statement.subjects_of(canonical_json(made))


def test_a_statement_about_something_else_is_refused() -> None:
    made = statement.make(manifest(), "manifest.json", {}) | {"predicateType": "https://spdx.dev/Document"}
    with pytest.raises(SignatureInvalid, match="not about a conversion"):
        statement.subjects_of(canonical_json(made))


def test_a_statement_tells_what_was_built_and_with_what() -> None:
    made = statement.make(
        manifest(materials=MATERIALS, tools={"torch": "2", "edgefleet": "1", "numpy": "2"}),
        "manifest.json",
        {"machine": "x86_64"},
    )
    definition = made["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "name": "sample", "version": "1.0.0", "profile": "arm-cpu", "task": "classification",
        "recipe": "wf32", "pruning": "none",
    }  # fmt: skip
    assert definition["internalParameters"] == {"environment": {"machine": "x86_64"}}
    said = [(d["name"], d["annotations"]) for d in definition["resolvedDependencies"]]
    assert said == [
        ("digits.onnx", {"role": "source", "run": "abc"}),
        ("wf32", {"role": "recipe"}),
        ("numpy", {"role": "tool"}),
        ("torch", {"role": "tool"}),
    ]
    assert "uri" not in definition["resolvedDependencies"][1]
    assert [subject["name"] for subject in made["subject"]] == [
        "manifest.json", *(file.path for file in manifest().files())
    ]  # fmt: skip


def test_the_data_of_an_evaluation_is_named_where_there_was_one() -> None:
    found = statement.materials_of(manifest(evaluation=digest_of(b"evaluation")).provenance)
    assert [(m.role, m.digest) for m in found][-1] == ("evaluation", digest_of(b"evaluation"))


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": [{"name": "a", "digest": {"sha256": 7}}]},
        {"subject": [{"name": None, "digest": {"sha256": "0" * 64}}]},
        {"subject": 7},
        {"subject": [{}]},
    ],
    ids=["type", "digest", "name", "no-list", "empty"],
)
def test_what_is_no_statement_with_named_subjects_is_refused(change: dict[str, object]) -> None:
    made = statement.make(manifest(), "manifest.json", {}) | change
    with pytest.raises(SignatureInvalid, match="signed"):
        statement.subjects_of(canonical_json(made))
