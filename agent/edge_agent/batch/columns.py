"""The columns of the answers, and one row of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from edge_agent.batch.rows import Row, import_pyarrow
from edge_agent.doubt.confidence import ConfidenceRule
from edge_agent.errors import InferenceFailed, InputRefused
from edge_agent.inference.session import Session
from edge_agent.input.interpret import TOP_CLASS, interpret
from edge_contracts.errors import FormatInvalid
from edge_contracts.manifest import Manifest
from edge_contracts.processing import Classes


def schema(manifest: Manifest) -> Any:
    """The Arrow schema of the answers of a bundle.

    `row`, `input`; `refused` and `detail` where there is no answer; `flagged`; for a classifier `label`,
    `index`, `score` and the best classes in `top`, for a detector `boxes`; `confidence` and `uncertain` where
    the bundle has a calibration; `output.NAME` flat.
    """
    arrow = import_pyarrow()
    fields = [
        ("row", arrow.int64()),
        ("input", arrow.string()),
        ("refused", arrow.string()),
        ("detail", arrow.string()),
        ("flagged", arrow.string()),
    ]
    best = [("class", arrow.string()), ("index", arrow.int32()), ("score", arrow.float64())]
    rule = _rule(manifest)
    if isinstance(rule, Classes):
        fields += [("label", arrow.string()), ("index", arrow.int32()), ("score", arrow.float64())]
        fields += [("top", arrow.list_(arrow.struct(best)))]
    elif rule is not None:
        points = arrow.list_(arrow.list_(arrow.float64()))
        box = [*best, ("box", arrow.list_(arrow.float64())), ("keypoints", points)]
        fields += [("boxes", arrow.list_(arrow.struct(box)))]
    if manifest.confidence:
        fields += [("confidence", arrow.float64()), ("uncertain", arrow.bool_())]
    for spec in manifest.outputs:
        kind = arrow.bool_() if spec.dtype == "bool" else getattr(arrow, spec.dtype)()
        fields += [(f"output.{spec.name}", arrow.list_(kind))]
    return arrow.schema(fields)


def refusals(output: Path) -> dict[str, int]:
    """How many rows of a file of answers have none, by reason, the most frequent first."""
    parquet = import_pyarrow("pyarrow.parquet")
    reasons = parquet.read_table(output, columns=["refused"]).column(0).drop_null().to_pylist()
    return dict(Counter(reasons).most_common())


def answer(session: Session, number: int, row: Row) -> dict[str, Any]:
    """One row of the answers; one that cannot be answered says why.

    Args:
        number: Of the row in the set.
    """
    manifest = session.manifest
    line: dict[str, Any] = {"row": number, "input": row.origin}
    try:
        prepared = row.load()
        found = session.infer(prepared.inputs)
        if found.samples != 1:
            raise InputRefused("shape", f"{row.origin} makes {found.samples} samples; a row is one")
    except (InputRefused, InferenceFailed, FormatInvalid) as error:
        return line | {"refused": error.code, "detail": str(error)}
    if found.flagged:
        line["flagged"] = ",".join(sorted(found.flagged))
    if (rule := _rule(manifest)) is not None:
        (meaning,) = interpret(manifest, found.outputs, prepared.view)
        line |= meaning
        if isinstance(rule, Classes) and meaning["top"]:
            best = meaning["top"][0]
            line |= {"label": best["class"], "index": best["index"], "score": best["score"]}
    if (sure := ConfidenceRule.of(manifest, session.artifact.id)) is not None:
        (confidence,) = sure(found.outputs)
        line |= {"confidence": confidence, "uncertain": not sure.is_sure(confidence)}
    for name, values in found.outputs.items():
        line[f"output.{name}"] = values[0].reshape(-1)
    return line


def _rule(manifest: Manifest) -> Any:
    if manifest.interpret is None and manifest.task == "classification":
        return TOP_CLASS
    return manifest.interpret
