"""The manifest: what a bundle contains and what it promises. Immutable; its digest names the bundle.

Nothing in it depends on the moment or the machine of its making (no date, no timing), so that the
same inputs give the same bytes; timings are in the converter's report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from edge_contracts.digest import Digest
from edge_contracts.model import Frozen, Identifier, VersionName, later
from edge_contracts.processing import Checks, Interpretation, Preparation
from edge_contracts.processing_fit import misfit_of_answer, misfit_of_input
from edge_contracts.profile import Precision, RuntimeName
from edge_contracts.sketch import Baseline

FORMAT = "edgefleet.manifest/1"
Task = Literal["classification", "regression", "detection", "reconstruction", "other"]
GoldenKind = Literal["sure", "boundary"]
Dtype = Literal["float32", "int32", "int64", "int8", "uint8", "bool"]

# Paths inside the archive: no drive, no root, no "..", nothing hidden.
MemberPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)?$")
]


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

    name: str = Field(min_length=1, max_length=256)
    dtype: Dtype = "float32"
    shape: tuple[int, ...]
    layout: Literal["", "NHWC", "NCHW"] = ""
    color_order: Literal["", "RGB", "BGR"] = ""
    value_range: tuple[float, float] | None = None
    prepare: Preparation | None = later(None)
    checks: Checks | None = later(None)

    @model_validator(mode="after")
    def _consistent(self) -> TensorSpec:
        if self.prepare is not None:
            rule = self.prepare
            if why := misfit_of_input(rule, self.shape, self.layout, self.color_order, self.dtype):
                raise ValueError(f"{rule.kind} for {self.name!r}: {why}")
        return self


class FileRef(Frozen):
    """One file of the bundle."""

    path: MemberPath
    digest: Digest
    bytes: int = Field(ge=0, le=1 << 31)


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
    scale: float | None = Field(default=None, gt=0)
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
    runtimes: tuple[RuntimeName, ...] = Field(min_length=1)
    files: tuple[FileRef, ...] = Field(min_length=1)
    inputs: tuple[Binding, ...] = Field(min_length=1)
    outputs: tuple[Binding, ...] = Field(min_length=1)
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
    count: int = Field(ge=1, le=4096)
    min_agreement: float = Field(ge=0, le=1)
    min_sqnr_db: float
    kinds: tuple[GoldenKind, ...] = later(())

    @model_validator(mode="after")
    def _consistent(self) -> Golden:
        if self.kinds and len(self.kinds) != self.count:
            raise ValueError(f"{len(self.kinds)} kinds of {self.count} golden inputs")
        if self.kinds and "sure" not in self.kinds:
            raise ValueError("no golden input is sure: nothing would be demanded")
        return self


class Score(Frozen):
    """One artifact against the float source, on samples that chose nothing.

    Args:
        agreement: Share of samples with the same top-1 class (classification), else None.
        sqnr_db: Signal-to-quantization-noise ratio of the outputs; None when they are equal.
        metric: What the two figures are, such as "accuracy"; "" without labels.
        source, artifact: In the metric's own unit.
        drop_interval: Where source - artifact lies with 95 % confidence; None where it cannot be told.
    """

    samples: int = Field(ge=1)
    agreement: float | None = None
    sqnr_db: float | None = None
    metric: str = ""
    source: float | None = None
    artifact: float | None = None
    drop_interval: tuple[float, float] | None = later(None)


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
    floor: float = Field(ge=0, lt=1)
    temperature: float = Field(gt=0)
    abstain_below: float | None = Field(default=None, ge=0, le=1)
    coverage: float | None = Field(default=None, ge=0, le=1)
    risk: float | None = Field(default=None, ge=0, le=1)
    risk_of: Literal["error", "disagreement"]
    samples: int = Field(ge=1)


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
    bytes: int | None = Field(default=None, ge=0)
    uri: str = ""
    annotations: Mapping[str, str] = Field(default_factory=dict)


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
    source_bytes: int = Field(ge=0)
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

    latency_p95_ms: float = Field(gt=0)
    max_error_rate: float = Field(default=0.01, ge=0, le=1)


class Manifest(Frozen):
    """What a bundle contains and promises."""

    format: Literal["edgefleet.manifest/1"]
    name: Identifier
    version: VersionName
    profile: Identifier
    task: Task
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    interpret: Interpretation | None = later(None)
    labels: tuple[str, ...] = ()
    labels_digest: Digest | None = None
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    golden: Golden
    baseline: Baseline
    evaluation: Mapping[str, Score]  # by artifact id
    confidence: Mapping[str, Confidence] = later({})  # by artifact id; of classifiers
    gates: DeviceGates
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        ids = [artifact.id for artifact in self.artifacts]
        if len(set(ids)) != len(ids):
            raise ValueError("two artifacts have the same id")
        for artifact in self.artifacts:
            for kind, bindings, specs in (
                ("input", artifact.inputs, self.inputs),
                ("output", artifact.outputs, self.outputs),
            ):
                if [b.name for b in bindings] != [s.name for s in specs]:
                    raise ValueError(
                        f"artifact {artifact.id} does not bind the {kind}s of the contract in order"
                    )
                for binding, spec in zip(bindings, specs, strict=True):
                    if binding.perm is not None and sorted(binding.perm) != list(range(len(spec.shape))):
                        raise ValueError(
                            f"artifact {artifact.id}: perm of {binding.name!r} is not a permutation"
                        )
        if self.interpret is not None:
            shapes = {spec.name: spec.shape for spec in self.outputs}
            has_picture = any(len(spec.shape) == 4 and spec.layout for spec in self.inputs)
            if why := misfit_of_answer(self.interpret, shapes, has_picture):
                raise ValueError(f"interpret, {self.interpret.kind}: {why}")
        paths = [file.path for file in self.files()]
        if len(set(paths)) != len(paths):
            raise ValueError("two files have the same path")
        return self

    def files(self) -> tuple[FileRef, ...]:
        """Every file of the bundle besides the manifest and its signature."""
        return (*(file for artifact in self.artifacts for file in artifact.files), self.golden.file)

    def artifact(self, artifact_id: str) -> Artifact:
        """An artifact by its id; KeyError when it is not there."""
        for artifact in self.artifacts:
            if artifact.id == artifact_id:
                return artifact
        raise KeyError(artifact_id)
