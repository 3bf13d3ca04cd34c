"""The manifest: what a bundle contains and what it promises. Immutable; its digest names the bundle.

Nothing in it depends on the moment or the machine of its making (no date, no timing), so that the
same inputs give the same bytes; timings are in the converter's report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, field

from edge_contracts.digest import Digest
from edge_contracts.model import (
    Count,
    Finite,
    Frozen,
    Identifier,
    Positive,
    Share,
    VersionName,
    later,
    matching,
)
from edge_contracts.processing import Checks, Interpretation, Preparation, with_kinds
from edge_contracts.processing_fit import misfit_of_answer, misfit_of_input
from edge_contracts.profile import Precision, RuntimeName
from edge_contracts.sketch import Baseline

FORMAT = "edgefleet.manifest/1"
Task = Literal["classification", "regression", "detection", "reconstruction", "other"]
GoldenKind = Literal["sure", "boundary"]
Dtype = Literal["float32", "int32", "int64", "int8", "uint8", "bool"]

# Paths inside the archive: no drive, no root, no "..", nothing hidden.
MemberPath = Annotated[str, matching("^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$")]


class TensorSpec(Frozen):
    """One input or output as an application sees it: the source model's own space.

    Args:
        shape: Batch axis first; its size is 1 and stands for any number of samples.
        layout: "NHWC", "NCHW" or "" when it is not an image.
        color_order: "RGB", "BGR" or "" when not known.
        value_range: Smallest and largest value seen in calibration; inputs far outside are suspicious.
        prepare: How bytes become it; None for an input that only takes arrays.
        checks: What else it must be.
    """

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    dtype: Dtype = "float32"
    shape: tuple[int, ...]
    layout: Literal["", "NHWC", "NCHW"] = ""
    color_order: Literal["", "RGB", "BGR"] = ""
    value_range: tuple[Finite, Finite] | None = None
    prepare: Preparation | None = later(None)
    checks: Checks | None = later(None)

    @classmethod
    def model_validate(cls, raw: Any) -> Self:
        """As every model; a column of a table that does not say its kind is one of numbers."""
        return super().model_validate(with_kinds(raw))

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.prepare is not None:
            rule = self.prepare
            if why := misfit_of_input(rule, self.shape, self.layout, self.color_order, self.dtype):
                raise ValueError(f"{rule.kind} for {self.name!r}: {why}")


class FileRef(Frozen):
    """One file of the bundle."""

    path: MemberPath
    digest: Digest
    bytes: Annotated[int, Meta(ge=0, le=1 << 31)]


class Binding(Frozen):
    """How one tensor of the contract meets one tensor of the artifact.

    The artifact's tensor is the contract's, transposed by `perm` and, when `scale` is there,
    quantized: code = round(value / scale) + zero_point, saturated. For outputs the way back:
    value = (code - zero_point) * scale, then transposed by `perm`.

    Args:
        name: Of the contract's tensor.
        tensor: Name inside the artifact.
        dtype, shape: Of the artifact's tensor.
    """

    name: str
    tensor: str
    dtype: Dtype
    shape: tuple[int, ...]
    perm: tuple[int, ...] | None = None
    scale: Positive | None = None
    zero_point: int = 0


class Artifact(Frozen):
    """One model in one form.

    Args:
        id: Names it inside the bundle, such as "int8"; golden outputs are filed under it.
        format: What the files are; an OpenVINO model is its .xml, then its .bin.
        runtimes: Who can open it, in order of preference.
        compiled_for: Accelerator that a vendor's compiler has prepared it for, or "".
        not_compiled: Why it is not, when the profile has an accelerator; "" otherwise.
    """

    id: Identifier
    format: Literal["tflite", "openvino-ir", "onnx"]
    precision: Precision
    runtimes: Annotated[tuple[RuntimeName, ...], Meta(min_length=1)]
    files: Annotated[tuple[FileRef, ...], Meta(min_length=1)]
    inputs: Annotated[tuple[Binding, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[Binding, ...], Meta(min_length=1)]
    compiled_for: str = ""
    not_compiled: str = ""

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.bytes for file in self.files)


class Golden(Frozen):
    """Inputs with known answers, run again before a model is switched on.

    `golden.npz` holds `input/<tensor>` of shape (count, ...) in the contract's space and
    `expected/<artifact id>/<tensor>`: what that artifact answered where it was made.

    Args:
        min_agreement: Smallest share of the sure inputs whose top-1 class equals the expected
            (classification), or whose own answer is within min_sqnr_db.
        min_sqnr_db: Smallest ratio of the expected outputs' power to the difference's, over all inputs,
            decibels.
        kinds: Of each input: from a "boundary" one, which another CPU's rounding may flip, no agreement is
            demanded. Empty where all are sure.
    """

    file: FileRef
    count: Annotated[int, Meta(ge=1, le=4096)]
    min_agreement: Share
    min_sqnr_db: Finite
    kinds: tuple[GoldenKind, ...] = later(())

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.kinds and len(self.kinds) != self.count:
            raise ValueError(f"{len(self.kinds)} kinds of {self.count} golden inputs")
        if self.kinds and "sure" not in self.kinds:
            raise ValueError("no golden input is sure: nothing would be demanded")


class Score(Frozen):
    """One artifact against the float source, on samples that chose nothing.

    Args:
        agreement: Share of samples with the same top-1 class (classification), else None.
        sqnr_db: Signal-to-quantization-noise ratio of the outputs; None when they are equal.
        metric: What the two figures are, such as "accuracy"; "" without labels.
        source, artifact: In the metric's own unit.
        drop_interval: Where source - artifact lies with 95 % confidence; None where it cannot be told.
    """

    samples: Annotated[int, Meta(ge=1)]
    agreement: Finite | None = None
    sqnr_db: Finite | None = None
    metric: str = ""
    source: Finite | None = None
    artifact: Finite | None = None
    drop_interval: tuple[Finite, Finite] | None = later(None)


class Confidence(Frozen):
    """How sure a classifying artifact is, and when it had better not answer.

    Take the first output's row z: its logarithms, where they are `scores` "probabilities", of values
    no smaller than `floor`. Its confidence is the largest of softmax(z / temperature). Below
    `abstain_below` an answer is worth withholding.

    Args:
        temperature: Divides logits so that confidence is as often right as it says.
        abstain_below: None when too few samples were there to find it.
        coverage: Share of the samples that are still answered.
        risk: What was shown with 95 % confidence of those: at most this share is wrong.
        risk_of: Wrong against labels ("error") or against the float source ("disagreement").
        samples: That found all this; they are not those that it was reported on.
    """

    scores: Literal["probabilities", "logits"]
    floor: Annotated[float, Meta(ge=0, lt=1)]
    temperature: Positive
    abstain_below: Share | None = None
    coverage: Share | None = None
    risk: Share | None = None
    risk_of: Literal["error", "disagreement"]
    samples: Annotated[int, Meta(ge=1)]


class Material(Frozen):
    """One thing that went into a build, as it was found.

    Args:
        role: What it was for.
        name: File name without its folder, or the recipe's name.
        uri: Where it is kept when that is known, without passwords: "models:/digits/3" of a registry,
            "dvc:md5:..." of a data version.
        annotations: What else its keeper says of it, such as the run that trained it.
    """

    role: Literal["source", "calibration", "evaluation", "labels", "recipe"]
    name: str
    digest: Digest
    bytes: Count | None = None
    uri: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


class Provenance(Frozen):
    """Where the artifacts come from.

    Args:
        calibration, evaluation: Digests of the data files; evaluation None when none was given.
        recipe: Name of the recipe that won, with its own digest.
        tools: Version by name of what took part.
        kept_float: Nodes that an int8 artifact computes in float though they have an int8 form.
        materials: Everything that was read, in the order of its roles; older releases did not say it.
    """

    source_name: str
    source_digest: Digest
    source_bytes: Count
    calibration: Digest
    evaluation: Digest | None = None
    recipe: str
    pruning: str
    tools: Mapping[str, str]
    materials: tuple[Material, ...] = later(())
    kept_float: tuple[str, ...] = later(())


class DeviceGates(Frozen):
    """What a trial on the device must hold.

    Args:
        latency_p95_ms: Of one inference on the device.
        max_error_rate: Share of failed inferences while on trial.
    """

    latency_p95_ms: Positive
    max_error_rate: Share = 0.01


class Manifest(Frozen):
    """What a bundle contains and promises."""

    format: Literal["edgefleet.manifest/1"]
    name: Identifier
    version: VersionName
    profile: Identifier
    task: Task
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    interpret: Interpretation | None = later(None)
    labels: tuple[str, ...] = ()
    labels_digest: Digest | None = None
    artifacts: Annotated[tuple[Artifact, ...], Meta(min_length=1)]
    golden: Golden
    baseline: Baseline
    evaluation: Mapping[str, Score]  # by artifact id
    confidence: Mapping[str, Confidence] = later({})  # by artifact id; of classifiers
    gates: DeviceGates
    provenance: Provenance

    @classmethod
    def model_validate(cls, raw: Any) -> Self:
        """As every model; see `TensorSpec`."""
        inputs = raw.get("inputs") if isinstance(raw, Mapping) else None
        if not isinstance(inputs, list | tuple):
            return super().model_validate(raw)
        return super().model_validate({**raw, "inputs": [with_kinds(one) for one in inputs]})

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        ids = [artifact.id for artifact in self.artifacts]
        if len(set(ids)) != len(ids):
            raise ValueError("two artifacts have the same id")
        for artifact in self.artifacts:
            _check_bound(artifact, "input", artifact.inputs, self.inputs)
            _check_bound(artifact, "output", artifact.outputs, self.outputs)
        if self.interpret is not None:
            shapes = {spec.name: spec.shape for spec in self.outputs}
            has_picture = any(len(spec.shape) == 4 and spec.layout for spec in self.inputs)
            if why := misfit_of_answer(self.interpret, shapes, has_picture):
                raise ValueError(f"interpret, {self.interpret.kind}: {why}")
        paths = [file.path for file in self.files()]
        if len(set(paths)) != len(paths):
            raise ValueError("two files have the same path")

    def files(self) -> tuple[FileRef, ...]:
        """Every file of the bundle besides the manifest and its signature."""
        return (*(file for artifact in self.artifacts for file in artifact.files), self.golden.file)

    def artifact(self, artifact_id: str) -> Artifact:
        """An artifact by its id; KeyError when it is not there."""
        for artifact in self.artifacts:
            if artifact.id == artifact_id:
                return artifact
        raise KeyError(artifact_id)


def _check_bound(
    artifact: Artifact, kind: str, bindings: Sequence[Binding], specs: Sequence[TensorSpec]
) -> None:
    """That an artifact has every tensor of the contract, in its order, with axes that can be put back."""
    if [binding.name for binding in bindings] != [spec.name for spec in specs]:
        raise ValueError(f"artifact {artifact.id} does not bind the {kind}s of the contract in order")
    for binding, spec in zip(bindings, specs, strict=True):
        if binding.perm is not None and sorted(binding.perm) != list(range(len(spec.shape))):
            raise ValueError(f"artifact {artifact.id}: perm of {binding.name!r} is not a permutation")
