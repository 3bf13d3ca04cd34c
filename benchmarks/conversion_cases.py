"""The MLPerf Tiny models, each with its shipped int8 twin, as cases for the conversion benchmarks.

A twin is compared with the float file that has its own weights. Pictures are crops of natural scenes,
not the data that the models were trained on; the anomaly detector's spectra are made up, for there
are none to be had: smooth random walks in the range of its log-mel inputs.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_contracts.arrays import write_npz
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.keys import PrivateKey, write_private
from edge_contracts.manifest import Artifact, Binding
from edge_convert.binding import decode, encode
from edge_convert.build import BuildOptions, build
from edge_convert.engine import Engine, LiteRtEngine, open_artifact, run
from edge_convert.gates import Limits
from edge_convert.preference import Prefer

Array = NDArray[Any]
SHARED = Path(os.environ.get("EDGEFLEET_DATA", Path(__file__).parents[2] / "shared" / "data"))
KEYWORD_SCALE, KEYWORD_ZERO_POINT = np.float32(0.5847029089927673), 83


@dataclass(frozen=True, eq=False)
class Case:
    """One model.

    Args:
        source: Float file with the twin's weights.
        twin: What MLPerf ships as its int8 form.
        calibration, evaluation: In the source's input space.
        labels: Classes of the evaluation samples, where there are any.
    """

    name: str
    source: Path
    twin: Path
    calibration: Array
    evaluation: Array
    labels: Array | None = None


@dataclass(frozen=True, eq=False)
class Contestant:
    """An opened file that takes and gives real values."""

    engine: Engine
    into: Binding
    out: Binding
    bytes: int

    def answers(self, samples: Array) -> Array:
        """Outputs of n samples."""
        answered = run(self.engine, {self.into.tensor: encode(self.into, samples)})
        return decode(self.out, answered[self.out.tensor])

    def bound(self, sample: Array) -> dict[str, Array]:
        """One sample as the file takes it."""
        return {self.into.tensor: encode(self.into, sample)}


def cases() -> list[Case]:
    """All four models.

    Raises:
        SystemExit: The folder of shared data is not there.
    """
    if not SHARED.is_dir():
        raise SystemExit(f"no models and data at {SHARED}; set EDGEFLEET_DATA to their folder")
    models = SHARED / "models"
    words = {part: np.load(SHARED / "kws" / f"{part}.npz") for part in ("calibration", "evaluation")}
    features = {k: (v["x"].astype(np.float32) - KEYWORD_ZERO_POINT) * KEYWORD_SCALE for k, v in words.items()}
    spectra = _spectra(600)
    return [
        Case(
            "image classification (ResNet-8)",
            models / "ic_resnet8_float32.tflite",
            models / "ic_resnet8_int8_ref.tflite",
            *_pictures(32, 1.0),
        ),
        Case(
            "person detection (MobileNetV1)",
            models / "vww_mobilenetv1_float32.tflite",
            models / "vww_mobilenetv1_int8_ref.tflite",
            *_pictures(96, 255.0),
        ),
        Case(
            "keywords (DS-CNN)",
            models / "kws_dscnn_dynrange_ref.tflite",
            models / "kws_dscnn_int8_ref.tflite",
            features["calibration"],
            features["evaluation"],
            words["evaluation"]["y"],
        ),
        Case(
            "anomalies (auto-encoder)",
            models / "ad_autoencoder_float32_ref.tflite",
            models / "ad_autoencoder_int8_ref.tflite",
            spectra[:300],
            spectra[300:],
        ),
    ]


def converted(
    case: Case,
    profile: str,
    folder: Path,
    prune: Literal["none", "auto"] | float = "none",
    prefer: Prefer = "balanced",
) -> tuple[Bundle, Contestant]:
    """Build a case for a profile with the product's own command, and open what it signed.

    Raises:
        SystemExit: A gate said no.
    """
    work = Path(tempfile.mkdtemp(dir=folder))
    write_private(PrivateKey.generate(), work / "private.pem")
    (work / "calibration.npz").write_bytes(write_npz({"x": case.calibration}))
    fields = {"x": case.evaluation} | ({} if case.labels is None else {"y": case.labels})
    (work / "evaluation.npz").write_bytes(write_npz(fields))
    options = BuildOptions(
        model=case.source,
        profiles=[profile],
        name="model",
        version="1",
        calibration=work / "calibration.npz",
        evaluation=work / "evaluation.npz",
        sign_key=work / "private.pem",
        output=work,
        prune=prune,
        prefer=prefer,
        limits=Limits(latency="off"),
    )
    (outcome,) = build(options, lambda text: None).outcomes
    if not outcome.passed:
        raise SystemExit(f"{case.name}: {outcome.summary}")
    bundle = open_bundle(work / outcome.bundle)
    return bundle, _of_artifact(bundle, bundle.manifest.artifacts[0])


def _of_artifact(bundle: Bundle, artifact: Artifact) -> Contestant:
    engine = open_artifact({f.path: bundle.contents[f.path] for f in artifact.files}, artifact.format)
    return Contestant(engine, artifact.inputs[0], artifact.outputs[0], artifact.bytes)


def shipped(path: Path) -> Contestant:
    """Open one of MLPerf's own files."""
    return of_tflite(path.read_bytes())


def of_tflite(content: bytes) -> Contestant:
    """Open a TFLite file with one input and one output, which may be int8."""
    engine = LiteRtEngine(content)
    into, out = (
        Binding.model_validate(
            {
                "name": kind,
                "tensor": port.name,
                "dtype": port.dtype,
                "shape": port.shape,
                "scale": port.scale,
                "zero_point": port.zero_point,
            }
        )
        for kind, port in (("x", engine.inputs[0]), ("y", engine.outputs[0]))
    )
    return Contestant(engine, into, out, len(content))


def _pictures(side: int, divisor: float) -> tuple[Array, Array]:
    calibration, evaluation = (
        np.load(SHARED / "pictures" / f"{part}{side}.npz")["x"].astype(np.float32) / np.float32(divisor)
        for part in ("calibration", "evaluation")
    )
    return calibration, evaluation


def _spectra(count: int) -> Array:
    """Five frames of 128 mel bands in decibels, joined: smooth over bands, of varying loudness."""
    rng = np.random.RandomState(0)
    walk = 0.5 * rng.standard_normal((count, 640)).cumsum(axis=1)
    loudness = -20 + 5 * rng.standard_normal((count, 1))
    return np.asarray(walk - walk.mean(axis=1, keepdims=True) + loudness, np.float32)
