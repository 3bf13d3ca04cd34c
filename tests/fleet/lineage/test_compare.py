"""Comparing: each kind of change is found, and nothing is found where nothing changed."""

from __future__ import annotations

from typing import Any

from fleet_rows import manifest

from edge_contracts.digest import digest_of
from edge_contracts.manifest import Manifest
from edge_fleet.lineage.compare import SECTIONS, Change, Measured, compare

SCORE = {
    "samples": 100,
    "agreement": 0.95,
    "sqnr_db": 30.0,
    "metric": "accuracy",
    "source": 0.9,
    "artifact": 0.88,
}


def changed(**fields: Any) -> Manifest:
    plain = manifest("1", "arm-cpu").model_dump(mode="json")
    return Manifest.model_validate(plain | fields)


BEFORE = changed(evaluation={"int8": SCORE})


def by_name(changes: list[Change]) -> dict[str, Change]:
    return {change.what: change for change in changes}


def test_a_bundle_does_not_differ_from_itself() -> None:
    assert compare(BEFORE, BEFORE) == []
    same = Measured(100, 1, 1.5, 2.5)
    assert compare(BEFORE, BEFORE, (same, same)) == []


def test_scores_say_which_way_they_went() -> None:
    after = changed(evaluation={"int8": {**SCORE, "agreement": 0.97, "artifact": 0.85}})
    found = by_name(compare(BEFORE, after))
    assert found["int8: agreement"] == Change("scores", "int8: agreement", 0.95, 0.97, "better")
    assert found["int8: accuracy"] == Change("scores", "int8: accuracy", 0.88, 0.85, "worse")
    assert len(found) == 2


def test_a_smaller_file_is_better_and_an_artifact_more_is_said() -> None:
    [artifact] = BEFORE.model_dump(mode="json")["artifacts"]
    [file] = artifact["files"]
    smaller = {**artifact, "files": [{**file, "bytes": 0}]}
    more = {**artifact, "id": "float32", "files": [{**file, "path": "artifacts/f.tflite"}]}
    found = by_name(compare(BEFORE, changed(evaluation={"int8": SCORE}, artifacts=[smaller, more])))
    assert found["int8: bytes"].verdict == "better"
    assert (found["float32: bytes"].before, found["float32: bytes"].after) == (None, 1)


def test_another_shape_breaks_the_contract_and_another_range_does_not() -> None:
    tensor = {"name": "x", "dtype": "float32", "shape": (1, 8)}
    found = by_name(compare(BEFORE, changed(evaluation={"int8": SCORE}, inputs=[tensor])))
    assert found["input x: shape"] == Change("contract", "input x: shape", [1, 4], [1, 8], "breaking")
    tensor = {"name": "x", "dtype": "float32", "shape": (1, 4), "value_range": (0, 1)}
    found = by_name(compare(BEFORE, changed(evaluation={"int8": SCORE}, inputs=[tensor])))
    assert [c.verdict for c in found.values()] == [""]
    found = by_name(compare(BEFORE, changed(evaluation={"int8": SCORE}, labels=["a", "b"])))
    assert found["labels"].verdict == "breaking"


def test_gates_latency_and_sources_are_compared() -> None:
    golden = {**BEFORE.model_dump(mode="json")["golden"], "min_agreement": 0.8}
    origin = {
        **BEFORE.model_dump(mode="json")["provenance"],
        "source_digest": digest_of(b"t"),
        "tools": {"onnx": "2"},
    }
    after = changed(
        evaluation={"int8": SCORE}, golden=golden, gates={"latency_p95_ms": 40}, provenance=origin
    )
    measured = Measured(90, 10, 2.0, 4.0), Measured(100, 0, 2.0, 8.0)
    found = compare(BEFORE, after, measured)
    assert {c.section for c in found} == {"gates", "latency", "provenance"} < set(SECTIONS)
    names = by_name(found)
    assert names["p95 measured by devices, ms"].verdict == "worse"
    assert names["error rate measured by devices"].before == 0.1
    assert names["error rate measured by devices"].verdict == "better"
    assert names["golden min_agreement"].after == 0.8
    assert names["tool onnx"] == Change("provenance", "tool onnx", None, "2")
