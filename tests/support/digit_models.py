"""Real, small conversions for tests: classifiers of scikit-learn's digits, made in a second.

Fixed random convolutions under a least-squares readout: deterministic, about 97 % right, and with
an inner layer whose ranges matter.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Array = NDArray[Any]
SIDE, FILTERS, CLASSES = 8, 16, 10
SHARPNESS = 12.0  # makes a softmax of regression targets -1 and 1 confident


@cache
def digits() -> tuple[Array, Array]:
    """All 1,797 pictures as (n, 1, 8, 8) float32 in 0..1 (the model's space is NCHW), and their classes."""
    loaded = load_digits()
    return (loaded.images / 16).astype(np.float32)[:, None], loaded.target.astype(np.int64)


def parts() -> dict[str, tuple[Array, Array]]:
    """Pictures for training, calibration and evaluation: 1,000, 300 and 497."""
    x, y = digits()
    return {
        "training": (x[:1000], y[:1000]),
        "calibration": (x[1000:1300], y[1000:1300]),
        "evaluation": (x[1300:], y[1300:]),
    }


@cache
def _weights() -> tuple[Array, Array, Array, Array]:
    rng = np.random.RandomState(3)
    kernels = rng.standard_normal((FILTERS, 1, 3, 3)).astype(np.float32)
    bias = rng.uniform(-0.5, 0.5, FILTERS).astype(np.float32)
    x, y = parts()["training"]
    hidden = _hidden(x, kernels, bias).astype(np.float64)
    hidden = np.hstack([hidden, np.ones((len(hidden), 1))])
    targets = np.where(np.arange(CLASSES) == y[:, None], 1.0, -1.0)
    gram = hidden.T @ hidden + 3.0 * np.eye(hidden.shape[1])
    readout = SHARPNESS * np.linalg.solve(gram, hidden.T @ targets)
    return kernels, bias, readout[:-1].astype(np.float32), readout[-1].astype(np.float32)


def _hidden(x: Array, kernels: Array, bias: Array) -> Array:
    windows = np.lib.stride_tricks.sliding_window_view(x[:, 0], (3, 3), axis=(1, 2))
    maps = np.einsum("nhwij,oij->nohw", windows, kernels[:, 0]) + bias[:, None, None]
    return np.asarray(np.maximum(maps, 0).reshape(len(x), -1), np.float32)


def answers(x: Array) -> Array:
    """The classifier worked out in numpy."""
    kernels, bias, readout, offset = _weights()
    scores = _hidden(x, kernels, bias).astype(np.float64) @ readout + offset
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def classifier(path: Path, spoilt: bool = False) -> Path:
    """Write the classifier as ONNX: Conv, Relu, Flatten, Gemm, Softmax; input "pixels", output "scores".

    Args:
        spoilt: Put a channel of enormous values beside the others, which int8 cannot bear and float can.
    """
    kernels, bias, readout, offset = _weights()
    if spoilt:
        # one filter answers in the hundred thousands, its readout undoes that: one int8 scale for
        # all of the layer's results leaves nothing of the other fifteen
        kernels, bias, readout = kernels.copy(), bias.copy(), readout.copy()
        kernels[0] *= 1e5
        bias[0] *= 1e5
        readout[: readout.shape[0] // FILTERS] /= 1e5
    nodes = [
        helper.make_node("Conv", ["pixels", "kernels", "bias"], ["maps"], "conv"),
        helper.make_node("Relu", ["maps"], ["kept"], "relu"),
        helper.make_node("Flatten", ["kept"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "readout", "offset"], ["logits"], "readout"),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [
            numpy_helper.from_array(kernels, "kernels"),
            numpy_helper.from_array(bias, "bias"),
            numpy_helper.from_array(readout, "readout"),
            numpy_helper.from_array(offset, "offset"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_data(path: Path, part: str, labels: bool = True) -> Path:
    """Write a part of the digits in the convention of calibration and evaluation files."""
    x, y = parts()[part]
    if labels:
        np.savez(path, x=x, y=y)
    else:
        np.savez(path, x=x)
    return path
