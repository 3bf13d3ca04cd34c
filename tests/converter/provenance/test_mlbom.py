"""The ML-BOM: valid by CycloneDX's own schema, complete, and the same each time."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import samples

from edge_contracts.bundle import open_bundle, pack
from edge_contracts.digest import digest_of
from edge_contracts.keys import PrivateKey
from edge_contracts.manifest import Manifest
from edge_contracts.signing import sign_manifest
from edge_convert import cli
from edge_convert.provenance import mlbom

pytest.importorskip("cyclonedx", reason="its copy of the schema is what the documents are held against")

MATERIALS = [
    {"role": "source", "name": "m.onnx", "digest": digest_of(b"s"), "bytes": 1, "uri": "models:/m/1",
     "annotations": {"mlflow_run_id": "abc"}},
    {"role": "calibration", "name": "c.npz", "digest": digest_of(b"c"), "bytes": 2},
    {"role": "evaluation", "name": "e.npz", "digest": digest_of(b"e"), "bytes": 3},
    {"role": "labels", "name": "l.txt", "digest": digest_of(b"l"), "bytes": 4},
    {"role": "recipe", "name": "wf32", "digest": digest_of(b"r"), "bytes": 5},
]  # fmt: skip
SCORE = {"samples": 200, "agreement": 0.98, "sqnr_db": 31.5, "metric": "accuracy", "source": 0.96,
         "artifact": 0.955, "drop_interval": [-0.002, 0.012]}  # fmt: skip


def bundle_with(**changes: Any) -> bytes:
    provenance = samples.manifest_fields()["provenance"] | {
        "materials": MATERIALS,
        "tools": {"edgefleet": "0.1.0", "numpy": "2.4.6"},
    }
    manifest: Manifest = samples.manifest(provenance=provenance, evaluation={"float32": SCORE}, **changes)
    return pack(manifest, sign_manifest(manifest, samples.KEY), samples.contents())


def document(**changes: Any) -> dict[str, Any]:
    return mlbom.document(open_bundle(bundle_with(**changes)))


def faults(made: dict[str, Any]) -> object:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made))


@pytest.mark.parametrize("archive", [bundle_with(), samples.archive()], ids=["full", "bare"])
def test_the_official_schema_accepts_it(archive: bytes) -> None:
    assert faults(mlbom.document(open_bundle(archive))) is None


def test_bundles_of_older_releases_have_one_too() -> None:
    path = Path(__file__).parents[2] / "golden" / "v1" / "sample.bundle"
    assert faults(mlbom.document(open_bundle(path))) is None


def test_the_schema_would_refuse_a_wrong_one() -> None:
    made = document()
    made["metadata"]["component"]["modelCard"]["performance"] = 1
    assert faults(made) is not None
    made = document()
    made["components"].append(made["components"][0])  # the same bom-ref twice is not seen by the schema ...
    refs = [c["bom-ref"] for c in document()["components"]]
    assert len(refs) == len(set(refs))  # ... and must not happen


def test_every_file_of_the_bundle_is_in_it_by_digest() -> None:
    bundle = open_bundle(bundle_with())
    hashes = {
        c["name"]: c["hashes"][0]["content"]
        for top in mlbom.document(bundle)["components"]
        for c in (top, *top.get("components", ()))
        if c["type"] == "file"
    }
    assert hashes == {f.path: f.digest.removeprefix("sha256:") for f in bundle.manifest.files()}


def test_the_card_says_what_was_measured_and_on_what() -> None:
    component = document()["metadata"]["component"]
    card = component["modelCard"]
    metrics = {m["type"]: m for m in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["accuracy of float32"]["value"] == "0.955"
    drop = metrics["drop of accuracy, float32, 200 samples"]
    assert drop["confidenceInterval"] == {"lowerBound": "-0.002", "upperBound": "0.012"}
    assert [d["ref"].split(":")[0] for d in card["modelParameters"]["datasets"]] == [
        "calibration",
        "evaluation",
    ]
    assert card["modelParameters"]["inputs"] == [{"format": "x: float32[n,4]"}]
    (ancestor,) = component["pedigree"]["ancestors"]
    assert ancestor["name"] == "m.onnx"
    assert {"name": "edgefleet:mlflow_run_id", "value": "abc"} in ancestor["properties"]


def test_every_dependency_is_a_component() -> None:
    made = document()
    known = {c["bom-ref"] for c in made["components"]} | {made["metadata"]["component"]["bom-ref"]}
    for entry in made["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= known


def test_the_same_bundle_gives_the_same_bytes_and_another_another_serial_number() -> None:
    assert document() == document()
    assert document()["serialNumber"] != document(version="1.0.1")["serialNumber"]
    assert "timestamp" not in document()["metadata"]


def test_the_command_checks_the_signature_where_it_is_told_whom_to_trust(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.bundle"
    path.write_bytes(bundle_with())
    (tmp_path / "public.pem").write_bytes(samples.KEY.public.pem)
    (tmp_path / "other.pem").write_bytes(PrivateKey.generate().public.pem)
    output = tmp_path / "m.cdx.json"
    trusted = ["--trust", str(tmp_path / "public.pem")]
    assert cli.run(["sbom", str(path), *trusted, "--output", str(output)]) == 0
    made = json.loads(output.read_text())
    signature = f"verified, by key {samples.KEY.public.key_id}"
    assert {"name": "edgefleet:signature", "value": signature} in made["metadata"]["component"]["properties"]
    assert cli.run(["sbom", str(path)]) == 0
    assert "not checked" in capsys.readouterr().out
    assert cli.run(["sbom", str(path), "--trust", str(tmp_path / "other.pem")]) == 1
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more", b"x")
    assert cli.run(["sbom", str(path)]) == 1
