"""From chosen artifacts to a signed bundle.

Everything in the manifest follows from the inputs: no date, no timing, no path. Which artifacts go
in has been decided before; the archive's own rules are `edge_contracts.bundle`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from edge_contracts import bundle
from edge_contracts.digest import digest_of
from edge_contracts.features import features, make_baseline
from edge_contracts.keys import PrivateKey
from edge_contracts.manifest import (
    Artifact,
    Confidence,
    DeviceGates,
    Dtype,
    FileRef,
    Golden,
    Manifest,
    Provenance,
    Score,
    Task,
    TensorSpec,
)
from edge_contracts.model import canonical_json
from edge_contracts.processing import Processing
from edge_contracts.profile import DeviceProfile, Precision
from edge_contracts.signing import sign_manifest
from edge_contracts.sketch import Baseline
from edge_convert import costs, drift, golden, processing
from edge_convert.binding import Model
from edge_convert.engine import LiteRtEngine
from edge_convert.graph import Array, Graph, Port
from edge_convert.measures.score import worst_sqnr_db

GOLDEN_PATH = "golden.npz"
OTHER_KERNEL_SAMPLES = 64
OTHER_KERNEL_MACS = 2e9  # a few seconds in kernels that are several times slower than XNNPACK's


@dataclass(frozen=True)
class Identity:
    """What the user calls the model and knows about it.

    Args:
        labels: Class names in order, or empty.
        color_order: "RGB", "BGR" or "" when not said.
        processing: How bytes become inputs, and outputs answers.
    """

    name: str
    version: str
    task: Task
    labels: tuple[str, ...] = ()
    color_order: Literal["", "RGB", "BGR"] = ""
    processing: Processing | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """One artifact on its way into a bundle.

    Args:
        files: Contents by path in the archive, in the order that the manifest lists them.
        model: The opened artifact that gives its bindings and expected outputs. For a compiled
            artifact, which nothing here can open, that of its CPU twin.
    """

    id: str
    format: Literal["tflite", "openvino-ir", "onnx"]
    precision: Precision
    runtimes: tuple[str, ...]
    files: Mapping[str, bytes]
    model: Model
    score: Score
    compiled_for: str = ""
    not_compiled: str = ""
    confidence: Confidence | None = None


@dataclass(frozen=True, eq=False)
class Content:
    """A manifest and the files that it names."""

    manifest: Manifest
    files: Mapping[str, bytes]


def tensor_specs(
    graph: Graph,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    color_order: str = "",
    said: Processing | None = None,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The contract's tensors, with the ranges seen in calibration.

    Args:
        inputs, outputs: Calibration samples and the source's answers, by the source's names.
        said: Rules for some of the inputs.
    """
    specs = tuple(_spec(graph, port, inputs[port.name], color_order) for port in graph.inputs)
    return (
        processing.applied(said, specs, inputs),
        tuple(_spec(graph, port, outputs[port.name], "") for port in graph.outputs),
    )


def _spec(graph: Graph, port: Port, values: Array, color_order: str) -> TensorSpec:
    return TensorSpec(
        name=port.name,
        dtype=cast(Dtype, graph.tensor(port.tensor).dtype),
        shape=port.shape,
        layout=cast(Literal["", "NHWC", "NCHW"], port.layout),
        color_order=cast(Literal["", "RGB", "BGR"], color_order if _is_picture(port) else ""),
        value_range=(float(values.min()), float(values.max())),
    )


def _is_picture(port: Port) -> bool:
    channels = {"NHWC": port.shape[-1], "NCHW": port.shape[1] if len(port.shape) > 1 else 0}
    return channels.get(port.layout) == 3


def baseline_of(
    inputs: Mapping[str, Array], outputs: Mapping[str, Array], task: Task, classes: int
) -> Baseline:
    """How the monitored numbers are distributed when nothing is wrong.

    Args:
        inputs, outputs: Calibration samples and the artifact's answers to them.
    """
    return drift.calibrated(make_baseline(features(inputs, outputs, task), classes or None))


def assemble(
    identity: Identity,
    profile: DeviceProfile,
    graph: Graph,
    parts: Sequence[Part],
    calibration: Mapping[str, Array],
    source_outputs: Mapping[str, Array],
    classes: int,
    provenance: Provenance,
) -> Content:
    """Make the manifest and the files.

    Args:
        parts: In order of preference; at least one.
        calibration: All calibration samples, by input name.
        source_outputs: The source's answers to them.
    """
    inputs, outputs = tensor_specs(
        graph, calibration, source_outputs, identity.color_order, identity.processing
    )
    answers = {part.id: part.model.run(calibration) for part in parts}
    count = golden.how_many(calibration, source_outputs, identity.task)
    chosen = golden.choose(calibration, source_outputs, list(answers.values()), identity.task, count)
    asked = {name: values[chosen.indices] for name, values in calibration.items()}
    expected = {
        i: {name: values[chosen.indices] for name, values in answer.items()} for i, answer in answers.items()
    }
    golden_bytes = golden.archive(asked, expected)
    files = {path: content for part in parts for path, content in part.files.items()}
    files[GOLDEN_PATH] = golden_bytes
    names = "".join(f"{label}\n" for label in identity.labels)
    manifest = Manifest(
        format="edgefleet.manifest/1",
        name=identity.name,
        version=identity.version,
        profile=profile.name,
        task=identity.task,
        inputs=inputs,
        outputs=outputs,
        interpret=None if identity.processing is None else identity.processing.interpret,
        labels=identity.labels,
        labels_digest=digest_of(names.encode()) if identity.labels else None,
        artifacts=tuple(_artifact(part) for part in parts),
        golden=Golden(
            file=_file(GOLDEN_PATH, golden_bytes),
            count=len(chosen.indices),
            min_agreement=golden.MIN_AGREEMENT,
            min_sqnr_db=golden.limit_db(_between_kernels(profile, graph, parts, calibration, chosen.indices)),
            kinds=chosen.kinds,
        ),
        baseline=baseline_of(calibration, answers[parts[0].id], identity.task, classes),
        evaluation={part.id: part.score for part in parts},
        confidence={part.id: part.confidence for part in parts if part.confidence is not None},
        gates=DeviceGates(latency_p95_ms=profile.latency_p95_ms),
        provenance=provenance,
    )
    return Content(manifest, files)


def _between_kernels(
    profile: DeviceProfile,
    graph: Graph,
    parts: Sequence[Part],
    calibration: Mapping[str, Array],
    golden_indices: NDArray[np.intp],
) -> list[float | None]:
    """How near LiteRT's own kernels are to XNNPACK; empty where the device has other arithmetic than both.

    An accelerator's arithmetic, and an OpenVINO device's, can only be measured there. Beside the golden
    inputs as many others are run as are cheap: few samples may agree by chance.
    """
    if profile.accelerator is not None or any(part.format != "tflite" for part in parts):
        return []
    others = min(OTHER_KERNEL_SAMPLES, int(OTHER_KERNEL_MACS / max(1, costs.macs(graph))))
    ratios: list[float | None] = []
    for part in parts:
        (content,) = part.files.values()
        slow = replace(part.model, engine=LiteRtEngine(content, delegate=False))
        for indices in (golden_indices, np.arange(min(others, len(next(iter(calibration.values())))))):
            few = {name: values[indices] for name, values in calibration.items()}
            if len(indices):
                ratios.append(worst_sqnr_db(part.model.run(few), slow.run(few)))
    return ratios


def _artifact(part: Part) -> Artifact:
    return Artifact(
        id=part.id,
        format=part.format,
        precision=part.precision,
        runtimes=part.runtimes,
        files=tuple(_file(path, content) for path, content in part.files.items()),
        inputs=part.model.inputs,
        outputs=part.model.outputs,
        compiled_for=part.compiled_for,
        not_compiled=part.not_compiled,
    )


def _file(path: str, content: bytes) -> FileRef:
    return FileRef(path=path, digest=digest_of(content), bytes=len(content))


def bundle_name(name: str, version: str, profile: str) -> str:
    """The file name of a bundle."""
    return f"{name}-{version}-{profile}{bundle.SUFFIX}"


def signed(content: Content, key: PrivateKey, environment: Mapping[str, str]) -> tuple[str, bytes, str]:
    """Sign and pack.

    Args:
        environment: What the signed statement says of this machine (`materials.environment`).

    Returns:
        The bundle's file name, its bytes, and the digest of its manifest, which names it.
    """
    manifest = content.manifest
    packed = bundle.pack(manifest, sign_manifest(manifest, key, environment), content.files)
    name = bundle_name(manifest.name, manifest.version, manifest.profile)
    return name, packed, digest_of(canonical_json(manifest))
