"""What lineage says of a release: the types of what `rows.py` finds, for the API, the console and the CLI."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from typing_extensions import TypedDict

from edge_contracts.manifest import Confidence, DeviceGates, FileRef, Provenance, Score, Task, TensorSpec
from edge_fleet.lineage import stages
from edge_fleet.lineage.compare import Change
from edge_fleet.lineage.withdrawn import Standing
from edge_fleet.registry import PublishedBundle, ReleaseHead
from edge_fleet.written import Written


class ReleaseArtifact(TypedDict):
    """One model of a bundle in one form.

    Args:
        id: Names it inside the bundle, such as "int8".
        format: "tflite", "openvino-ir" or "onnx".
        precision: Of the weights, such as "int8".
        runtimes: Who can open it, in order of preference.
        bytes: Size of all its files.
        compiled_for: Accelerator that a vendor's compiler has prepared it for; "" for none.
        not_compiled: Why it is not, when the profile has an accelerator; "" otherwise.
    """

    id: str
    format: str
    precision: str
    runtimes: list[str]
    bytes: int
    compiled_for: str
    not_compiled: str
    files: list[Annotated[dict[str, Any], Written(FileRef)]]


class GoldenDemand(TypedDict):
    """What is demanded of the answers to inputs with known answers, before a device switches to a bundle.

    Args:
        count: Golden inputs.
        min_agreement: Smallest share of the sure ones that must agree.
        min_sqnr_db: Smallest ratio of signal to difference over all of them, decibels.
    """

    count: int
    min_agreement: float
    min_sqnr_db: float


class BundlePromises(TypedDict):
    """What a bundle's manifest promises.

    Args:
        inputs, outputs: As an application sees them.
        labels: Names of the classes; none for a model that has no classes.
        evaluation, confidence: By artifact.
        gates: What a trial on the device must hold.
    """

    task: Task
    inputs: list[Annotated[dict[str, Any], Written(TensorSpec)]]
    outputs: list[Annotated[dict[str, Any], Written(TensorSpec)]]
    labels: list[str]
    evaluation: dict[str, Annotated[dict[str, Any], Written(Score)]]
    confidence: dict[str, Annotated[dict[str, Any], Written(Confidence)]]
    gates: Annotated[dict[str, Any], Written(DeviceGates)]
    provenance: Annotated[dict[str, Any], Written(Provenance)]
    golden: GoldenDemand
    artifacts: list[ReleaseArtifact]


class BundleMeasured(TypedDict):
    """What devices measured of a bundle, over all windows that they sent.

    Args:
        inferences: Answered.
        errors: Failed.
        latency_p50_ms, latency_p95_ms: Of single inferences, milliseconds; null when none was timed.
        devices: That reported it in windows that are still kept.
    """

    inferences: int
    errors: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    devices: NotRequired[int]


class BundleInFull(PublishedBundle, BundlePromises):
    """A bundle: what its manifest promises, and what devices measured.

    Args:
        measured: Null when no device has reported it.
    """

    measured: BundleMeasured | None


class ReleaseInFull(ReleaseHead):
    """A release with everything that is known of it.

    Args:
        history: Oldest first.
        policy: What this fleet asks of a release before a rollout of it may begin.
        refusal: Why no rollout of it may begin; "" when one may.
        withdrawal: How far its devices have stopped with it; null while it is not withdrawn.
    """

    history: list[stages.Step]
    policy: stages.Policy
    refusal: str
    withdrawal: Standing | None
    bundles: list[BundleInFull]


class ReleasesCompared(TypedDict):
    """What changed from one release to another.

    Args:
        before, after: NAME@VERSION.
        profiles: Differences by profile that both have.
    """

    before: str
    after: str
    profiles: dict[str, list[Change]]
    removed_profiles: list[str]
    added_profiles: list[str]
