"""Small valid manifests, bundles and messages for the contract tests; nothing here runs a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_contracts.arrays import write_npz
from edge_contracts.bundle import pack
from edge_contracts.digest import digest_of
from edge_contracts.keys import PrivateKey
from edge_contracts.manifest import Manifest
from edge_contracts.model import parse_object
from edge_contracts.signing import sign_manifest

# RFC 8032, section 7.1, test 1: a key that everybody may know
KEY = PrivateKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
MODEL = b"not a model, but bytes with a digest"
GOLDEN = write_npz(
    {"input/x": np.zeros((1, 4), np.float32), "expected/float32/y": np.ones((1, 2), np.float32)}
)


def manifest_fields(**changes: Any) -> dict[str, Any]:
    """The fields of a valid manifest, with some of them changed."""
    binding = {"tensor": "t", "dtype": "float32"}
    return {
        "format": "edgefleet.manifest/1",
        "name": "sample",
        "version": "1.0.0",
        "profile": "arm-cpu",
        "task": "classification",
        "inputs": [{"name": "x", "shape": [1, 4]}],
        "outputs": [{"name": "y", "shape": [1, 2]}],
        "artifacts": [
            {
                "id": "float32",
                "format": "tflite",
                "precision": "float32",
                "runtimes": ["litert"],
                "files": [
                    {"path": "artifacts/float32.tflite", "digest": digest_of(MODEL), "bytes": len(MODEL)}
                ],
                "inputs": [{"name": "x", "shape": [1, 4], **binding}],
                "outputs": [{"name": "y", "shape": [1, 2], **binding}],
            }
        ],
        "golden": {
            "file": {"path": "golden.npz", "digest": digest_of(GOLDEN), "bytes": len(GOLDEN)},
            "count": 1,
            "min_agreement": 0.9,
            "min_sqnr_db": 15.0,
        },
        "baseline": {"samples": 0},
        "evaluation": {"float32": {"samples": 1}},
        "gates": {"latency_p95_ms": 10.0},
        "provenance": {
            "source_name": "sample.onnx",
            "source_digest": digest_of(b"source"),
            "source_bytes": 6,
            "calibration": digest_of(b"calibration"),
            "recipe": "wf32",
            "pruning": "none",
            "tools": {"edgefleet": "0.1.0"},
        },
    } | changes


def manifest(**changes: Any) -> Manifest:
    """A valid manifest, with some fields changed."""
    return parse_object(Manifest, manifest_fields(**changes), "sample")


def contents() -> dict[str, bytes]:
    """The files that the sample manifest names."""
    return {"artifacts/float32.tflite": MODEL, "golden.npz": GOLDEN}


def archive(key: PrivateKey = KEY, **changes: Any) -> bytes:
    """A whole signed bundle."""
    made = manifest(**changes)
    return pack(made, sign_manifest(made, key), contents())
