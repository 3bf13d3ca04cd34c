"""The statement that a signature makes about a bundle: in-toto Statement v1 with SLSA Provenance v1.

Subjects are the SHA-256 of every file. The predicate says what was asked for, what went in (the
materials) and what took part (the tools), in the words of slsa.dev/spec/v1.0/provenance, so that a
policy engine that has never heard of Edgefleet can read it. No date: the same inputs give the same
bytes. Signing it is `signing.py`'s matter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from edge_contracts.digest import digest_of
from edge_contracts.errors import SignatureInvalid
from edge_contracts.manifest import Manifest, Material, Provenance
from edge_contracts.model import canonical_json

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# what the predicate was before it took SLSA's form; bundles that carry it still verify
EARLIER_PREDICATE_TYPES = frozenset({"urn:edgefleet:conversion:v1"})
BUILD_TYPE = "urn:edgefleet:conversion:v2"
BUILDER = "urn:edgefleet:edge-convert"
OURSELVES = "edgefleet"  # the distribution's name among the tools


def make(manifest: Manifest, manifest_path: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The statement for a manifest and every file it names.

    Args:
        manifest_path: Name of the manifest among the subjects.
        environment: What the machine was like, by name; nothing that differs from run to run.
    """
    subjects = [{"name": manifest_path, "digest": _sha256(digest_of(canonical_json(manifest)))}]
    subjects += [{"name": f.path, "digest": _sha256(f.digest)} for f in manifest.files()]
    provenance = manifest.provenance
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "name": manifest.name,
                    "version": manifest.version,
                    "profile": manifest.profile,
                    "task": manifest.task,
                    "recipe": provenance.recipe,
                    "pruning": provenance.pruning,
                },
                "internalParameters": {"environment": dict(environment)},
                "resolvedDependencies": [
                    *(_of_material(m) for m in materials_of(provenance)),
                    *(_of_tool(n, v) for n, v in sorted(provenance.tools.items()) if n != OURSELVES),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {n: v for n, v in provenance.tools.items() if n == OURSELVES},
                }
            },
            # SLSA's rule for extensions: the vendor's prefix, and a verifier may ignore it
            "edgefleet_evaluation": {k: v.model_dump(mode="json") for k, v in manifest.evaluation.items()},
        },
    }


def materials_of(provenance: Provenance) -> tuple[Material, ...]:
    """What went in; of a manifest that lists no materials, what its other fields say."""
    if provenance.materials:
        return provenance.materials
    found = [
        Material(
            role="source",
            name=provenance.source_name,
            digest=provenance.source_digest,
            bytes=provenance.source_bytes,
        ),
        Material(role="calibration", name="calibration", digest=provenance.calibration),
    ]
    if provenance.evaluation is not None:
        found.append(Material(role="evaluation", name="evaluation", digest=provenance.evaluation))
    return tuple(found)


def subjects_of(payload: bytes) -> dict[str, str]:
    """Digest by name of what a signed payload speaks for.

    Raises:
        SignatureInvalid: It is not a statement about a conversion.
    """
    try:
        statement = json.loads(payload)
        if statement["_type"] != STATEMENT_TYPE or (
            statement["predicateType"] not in {PREDICATE_TYPE, *EARLIER_PREDICATE_TYPES}
        ):
            raise SignatureInvalid("the signed statement is not about a conversion")
        for subject in statement["subject"]:
            if not (isinstance(subject["name"], str) and isinstance(subject["digest"]["sha256"], str)):
                raise SignatureInvalid("a subject of the signed statement has no name or digest")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureInvalid("the signed payload is not an in-toto statement") from None
    return {s["name"]: "sha256:" + s["digest"]["sha256"] for s in statement["subject"]}


def purl(name: str, version: str) -> str:
    """The package URL of a distribution on PyPI (github.com/package-url/purl-spec, type pypi)."""
    return f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version, safe='')}"


def _of_material(material: Material) -> dict[str, Any]:
    """A ResourceDescriptor (in-toto attestation, v1/resource_descriptor.md)."""
    described: dict[str, Any] = {"name": material.name, "digest": _sha256(material.digest)}
    if material.uri:
        described["uri"] = material.uri
    described["annotations"] = {"role": material.role, **material.annotations}
    return described


def _of_tool(name: str, version: str) -> dict[str, Any]:
    return {"name": name, "uri": purl(name, version), "annotations": {"role": "tool"}}


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
