"""A bundle as a CycloneDX ML-BOM: the model with its card, its files, data, source, recipe and tools.

CycloneDX 1.6 (ECMA-424, 1st edition), JSON form. Everything follows from the bundle: there is no date, and
the serial number is a name-based UUID (RFC 9562, version 5) of the bundle's digest, so that the same bundle
gives the same bytes. The form is written here because cyclonedx-python-lib 11 has no model card; the
tests hold it against the official schema.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from edge_contracts.bundle import MANIFEST, Bundle
from edge_contracts.digest import short
from edge_contracts.manifest import Artifact, FileRef, Manifest, Material, Score, TensorSpec
from edge_contracts.statement import OURSELVES, materials_of, purl

SPEC_VERSION = "1.6"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgefleet:bundle")
# role of a material -> (type of component, type of its data)
_KINDS = {
    "source": ("machine-learning-model", ""),
    "calibration": ("data", "dataset"),
    "evaluation": ("data", "dataset"),
    "labels": ("data", "definition"),
    "recipe": ("data", "configuration"),
}


def document(bundle: Bundle, signed_by: str = "") -> dict[str, Any]:
    """The ML-BOM of a bundle.

    Args:
        signed_by: The key whose signature was verified; "" when nobody checked.
    """
    manifest = bundle.manifest
    materials = materials_of(manifest.provenance)
    tools = {n: v for n, v in sorted(manifest.provenance.tools.items()) if n != OURSELVES}
    root = f"model:{bundle.digest}"
    components = [
        *(_artifact(manifest, artifact) for artifact in manifest.artifacts),
        _file(manifest.golden.file, "inputs with known answers"),
        *(_material(material) for material in materials),
        *(_library(name, version) for name, version in tools.items()),
    ]
    refs = [component["bom-ref"] for component in components]
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, bundle.digest)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "post-build"}],
            "tools": {"components": [_converter(manifest)]},
            "component": _model(bundle, root, materials, signed_by),
        },
        "components": components,
        "dependencies": [
            {"ref": root, "dependsOn": [r for r in refs if not r.startswith("pkg:")]},
            *(
                {"ref": _ref_of_artifact(a), "dependsOn": [_ref_of_material(m) for m in materials]}
                for a in manifest.artifacts
            ),
        ],
    }


def _model(bundle: Bundle, root: str, materials: tuple[Material, ...], signed_by: str) -> dict[str, Any]:
    manifest = bundle.manifest
    provenance = manifest.provenance
    return {
        "type": "machine-learning-model",
        "bom-ref": root,
        "name": manifest.name,
        "version": manifest.version,
        "description": f"{manifest.task} model for {manifest.profile}, converted by edge-convert",
        "hashes": _hashes(bundle.digest),
        "pedigree": {"ancestors": [_ancestor(m) for m in materials if m.role == "source"]},
        "modelCard": _card(manifest, materials),
        "properties": _properties(
            {
                "bundle": bundle.digest,
                "digest_of": MANIFEST,
                "profile": manifest.profile,
                "pruning": provenance.pruning,
                "recipe": provenance.recipe,
                "signature": f"verified, by key {signed_by}" if signed_by else "not checked",
            }
        ),
    }


def _card(manifest: Manifest, materials: tuple[Material, ...]) -> dict[str, Any]:
    limits = [f"{a.id}: {a.not_compiled}" for a in manifest.artifacts if a.not_compiled]
    metrics = [m for name, score in sorted(manifest.evaluation.items()) for m in _metrics(name, score)]
    card: dict[str, Any] = {
        "modelParameters": {
            "task": manifest.task,
            "datasets": [{"ref": _ref_of_material(m)} for m in materials if _KINDS[m.role][1] == "dataset"],
            "inputs": [{"format": _format(spec)} for spec in manifest.inputs],
            "outputs": [{"format": _format(spec)} for spec in manifest.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
    }
    if limits:
        card["considerations"] = {"technicalLimitations": limits}
    return card


def _metrics(artifact: str, score: Score) -> Iterator[dict[str, Any]]:
    """One row for each figure; CycloneDX wants numbers as text."""
    where = f"{artifact}, {score.samples} samples"
    if score.metric and score.artifact is not None:
        yield {"type": f"{score.metric} of {artifact}", "value": repr(score.artifact)}
    if score.metric and score.source is not None:
        yield {"type": f"{score.metric} of the source, for {artifact}", "value": repr(score.source)}
        if score.artifact is not None:
            drop = {"type": f"drop of {score.metric}, {where}", "value": repr(score.source - score.artifact)}
            if score.drop_interval is not None:
                low, high = score.drop_interval
                drop["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}  # type: ignore[assignment]
            yield drop
    if score.agreement is not None:
        yield {"type": f"agreement with the source, {where}", "value": repr(score.agreement)}
    if score.sqnr_db is not None:
        yield {"type": f"SQNR against the source in dB, {where}", "value": repr(score.sqnr_db)}


def _format(spec: TensorSpec) -> str:
    shape = ",".join("n" if axis == 0 else str(size) for axis, size in enumerate(spec.shape))
    words = [f"{spec.name}: {spec.dtype}[{shape}]", spec.layout, spec.color_order]
    if spec.value_range is not None:
        words.append(f"seen {spec.value_range[0]:g} to {spec.value_range[1]:g}")
    return " ".join(word for word in words if word)


def _artifact(manifest: Manifest, artifact: Artifact) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref_of_artifact(artifact),
        "name": f"{manifest.name}-{artifact.id}",
        "version": manifest.version,
        "description": f"{artifact.format} in {artifact.precision} for {', '.join(artifact.runtimes)}",
        "components": [_file(file) for file in artifact.files],
        "properties": _properties(
            {
                "compiled_for": artifact.compiled_for,
                "format": artifact.format,
                "not_compiled": artifact.not_compiled,
                "precision": artifact.precision,
                "runtimes": ",".join(artifact.runtimes),
            }
        ),
    }


def _file(file: FileRef, description: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "file",
        "bom-ref": f"file:{file.path}",
        "name": file.path,
        "hashes": _hashes(file.digest),
        "properties": _properties({"bytes": str(file.bytes)}),
    }
    return made | ({"description": description} if description else {})


def _material(material: Material) -> dict[str, Any]:
    kind, data = _KINDS[material.role]
    described: dict[str, Any] = {
        "type": kind,
        "bom-ref": _ref_of_material(material),
        "name": material.name,
        "version": short(material.digest),
        "hashes": _hashes(material.digest),
        "properties": _properties(
            {
                "bytes": "" if material.bytes is None else str(material.bytes),
                "role": material.role,
                "uri": material.uri,
                **material.annotations,
            }
        ),
    }
    if data:
        described["data"] = [{"type": data, "name": material.name}]
    return described


def _ancestor(material: Material) -> dict[str, Any]:
    described = _material(material)
    return {**described, "bom-ref": f"ancestor:{described['bom-ref']}"}


def _library(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "purl": purl(name, version),
        "scope": "excluded",  # took part in making the bundle, is not in it
    }


def _converter(manifest: Manifest) -> dict[str, Any]:
    version = manifest.provenance.tools.get(OURSELVES, "")
    return {
        "type": "application",
        "bom-ref": "tool:edge-convert",
        "name": "edge-convert",
        "version": version,
        **({"purl": purl(OURSELVES, version)} if version else {}),
    }


def _ref_of_artifact(artifact: Artifact) -> str:
    return f"artifact:{artifact.id}"


def _ref_of_material(material: Material) -> str:
    return f"{material.role}:{material.digest}"


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]


def _properties(values: dict[str, str]) -> list[dict[str, str]]:
    """Ours, under our prefix; what is empty is left out."""
    return [{"name": f"edgefleet:{name}", "value": value} for name, value in sorted(values.items()) if value]
