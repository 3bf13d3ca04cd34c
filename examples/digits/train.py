"""Train the example's three digit classifiers and write them as ONNX, with the data that goes along.

    pip install 'edgefleet[dev]'
    python examples/digits/train.py            # writes beside itself; about 20 seconds

Everything comes from scikit-learn's digits (1,797 labelled pictures of 8 x 8 pixels, 0 to 16):

* `digits-1.onnx`: a small dense network, the first version of a product.
* `digits-2.onnx`: a convolutional network, better on the same evaluation pictures.
* `digits-3.onnx`: the best of the three - on its own desk. Its author's pictures were inverted, dark
  ink on white paper, and so are the calibration and evaluation files that came with it. The cameras
  in the field deliver light ink on black. Its accuracy at conversion is the highest, its golden
  inputs agree on every device, and on live pictures it is wrong: training/serving skew, the
  commonest way in which a good model is a bad release. Nothing in the file is marked; the fleet has
  to notice.

The pictures are split once, by a fixed shuffle: training, calibration, evaluation and live are
disjoint. The networks are trained in numpy (Adam, cross-entropy), so that nothing large is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from edge_contracts.arrays import write_npz

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Weights = dict[str, Floats]

TRAINING, CALIBRATION, EVALUATION = 1000, 200, 297  # the remaining 300 are live
EPOCHS, BATCH, RATE = 60, 50, 2e-3
WHITE = np.float32(16)  # the largest pixel


def split(seed: int = 20) -> dict[str, tuple[Floats, Labels]]:
    """The four disjoint parts: pictures [n, 1, 8, 8] with values 0 to 16, labels [n]."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x = digits.images.astype(np.float32)[order][:, None]
    y = digits.target.astype(np.int64)[order]
    cuts = np.cumsum([TRAINING, CALIBRATION, EVALUATION])
    names = ("training", "calibration", "evaluation", "live")
    return dict(zip(names, zip(np.split(x, cuts), np.split(y, cuts), strict=True), strict=True))


def invert(x: Floats) -> Floats:
    """What version 3's author had in front of the model, and told nobody."""
    return WHITE - x


def columns(x: Floats) -> Floats:
    """3 x 3 neighbourhoods with a border of zeros: [n, c, h, w] to [n, h, w, c * 9]."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(*x.shape[:1], *x.shape[2:], -1)


def dense_forward(w: Weights, x: Floats) -> tuple[Floats, dict[str, Any]]:
    """Logits of the dense network, and what its gradient needs."""
    flat = x.reshape(len(x), -1)
    hidden = np.maximum(flat @ w["w1"] + w["b1"], 0)
    return hidden @ w["w2"] + w["b2"], {"flat": flat, "hidden": hidden}


def dense_backward(w: Weights, seen: Mapping[str, Any], gradient: Floats) -> Weights:
    """Gradients of the dense network's weights, given that of its logits."""
    hidden = gradient @ w["w2"].T * (seen["hidden"] > 0)
    return {
        "w2": seen["hidden"].T @ gradient,
        "b2": gradient.sum(0),
        "w1": seen["flat"].T @ hidden,
        "b1": hidden.sum(0),
    }


def conv_forward(w: Weights, x: Floats) -> tuple[Floats, dict[str, Any]]:
    """Logits of the convolutional network (3 x 3 conv, ReLU, 2 x 2 max pool, dense, ReLU, dense)."""
    cols = columns(x)
    mapped = np.maximum(cols @ w["k"].reshape(len(w["k"]), -1).T + w["kb"], 0).transpose(0, 3, 1, 2)
    n, c, h, width = mapped.shape
    blocks = mapped.reshape(n, c, h // 2, 2, width // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    blocks = blocks.reshape(n, c, h // 2, width // 2, 4)
    best = blocks.argmax(-1)
    pooled = blocks.max(-1)
    logits, seen = dense_forward(w, pooled)
    return logits, seen | {"cols": cols, "mapped": mapped, "best": best}


def conv_backward(w: Weights, seen: Mapping[str, Any], gradient: Floats) -> Weights:
    """Gradients of the convolutional network's weights, given that of its logits."""
    result = dense_backward(w, seen, gradient)
    hidden = gradient @ w["w2"].T * (seen["hidden"] > 0)
    best, mapped = seen["best"], seen["mapped"]
    n, c, h, width = mapped.shape
    blocks = np.zeros((*best.shape, 4), np.float32)
    np.put_along_axis(blocks, best[..., None], (hidden @ w["w1"].T).reshape(best.shape)[..., None], -1)
    back = blocks.reshape(n, c, h // 2, width // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    back = (back.reshape(mapped.shape) * (mapped > 0)).transpose(0, 2, 3, 1)
    flat = back.reshape(-1, c)
    cols = seen["cols"].reshape(len(flat), -1)
    return result | {"k": (flat.T @ cols).reshape(w["k"].shape), "kb": flat.sum(0)}


def train(x: Floats, y: Labels, channels: int, hidden: int, seed: int) -> Weights:
    """Weights after Adam (Kingma and Ba, arXiv:1412.6980) on the cross-entropy.

    Args:
        x: [n, 1, 8, 8], scaled to about 0..1.
        channels: Of the convolution; 0 leaves it out.
    """
    rng = np.random.default_rng(seed)
    features = channels * 16 if channels else 64
    w: Weights = {
        "w1": rng.normal(0, np.sqrt(2 / features), (features, hidden)).astype(np.float32),
        "b1": np.zeros(hidden, np.float32),
        "w2": rng.normal(0, np.sqrt(1 / hidden), (hidden, 10)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }
    if channels:
        w["k"] = rng.normal(0, np.sqrt(2 / 9), (channels, 1, 3, 3)).astype(np.float32)
        w["kb"] = np.zeros(channels, np.float32)
    forward, backward = (conv_forward, conv_backward) if channels else (dense_forward, dense_backward)
    first = {k: np.zeros_like(v) for k, v in w.items()}
    second = {k: np.zeros_like(v) for k, v in w.items()}
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            pick = order[start : start + BATCH]
            logits, seen = forward(w, x[pick])
            shifted = np.exp(logits - logits.max(1, keepdims=True))
            gradient = shifted / shifted.sum(1, keepdims=True)
            gradient[np.arange(len(pick)), y[pick]] -= 1
            step += 1
            for key, slope in backward(w, seen, gradient / len(pick)).items():
                slope = slope + 1e-4 * w[key]
                first[key] = 0.9 * first[key] + 0.1 * slope
                second[key] = 0.999 * second[key] + 0.001 * slope**2
                fraction = first[key] / (1 - 0.9**step) / (np.sqrt(second[key] / (1 - 0.999**step)) + 1e-8)
                w[key] = (w[key] - RATE * fraction).astype(np.float32)
    return w


def accuracy(w: Weights, x: Floats, y: Labels) -> float:
    """Share of right answers on pictures of 0 to 16."""
    forward = conv_forward if "k" in w else dense_forward
    return float((forward(w, x / WHITE)[0].argmax(1) == y).mean())


def to_onnx(w: Weights, name: str, scale: float) -> onnx.ModelProto:
    """The network as ONNX opset 17: input `image` [n, 1, 8, 8], output `scores` [n, 10] (softmax).

    Args:
        scale: What the pictures are multiplied with inside the graph.
    """
    constants = w | {"scale": np.array([scale], np.float32)}
    nodes = [helper.make_node("Mul", ["image", "scale"], ["scaled"], "scale_pixels")]
    last = "scaled"
    if "k" in w:
        nodes += [
            helper.make_node(
                "Conv", [last, "k", "kb"], ["mapped"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]
            ),
            helper.make_node("Relu", ["mapped"], ["mapped_relu"], "conv_relu"),
            helper.make_node(
                "MaxPool", ["mapped_relu"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]
            ),
        ]
        last = "pooled"
    nodes += [
        helper.make_node("Flatten", [last], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"], "dense1"),
        helper.make_node("Relu", ["hidden"], ["hidden_relu"], "dense1_relu"),
        helper.make_node("Gemm", ["hidden_relu", "w2", "b2"], ["logits"], "dense2"),
        helper.make_node("Softmax", ["logits"], ["scores"], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in sorted(constants.items())],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="examples/digits/train.py",
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train, write, and print the accuracy on the evaluation and on the live pictures."""
    parser = argparse.ArgumentParser(description="Train the digit classifiers of the demonstration.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder to write to")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    parts = split()
    x, y = parts["training"]
    print("model      made with      accuracy: own evaluation   live")
    for version, channels, hidden in (("1", 0, 10), ("2", 12, 48), ("3", 16, 64)):
        own = invert if version == "3" else np.asarray
        weights = train(own(x) / WHITE, y, channels, hidden, seed=int(version))
        model = to_onnx(weights, f"digits-{version}", float(1 / WHITE))
        (output / f"digits-{version}.onnx").write_bytes(model.SerializeToString())
        made_with = "dark ink" if version == "3" else "light ink"
        desk = accuracy(weights, own(parts["evaluation"][0]), parts["evaluation"][1])
        field = accuracy(weights, *parts["live"])  # nobody inverts in the field
        print(f"digits {version}   {made_with:<12}   {desk:.3f}                      {field:.3f}")
    for name in ("calibration", "evaluation", "live"):
        pictures, labels = parts[name]
        (output / f"{name}.npz").write_bytes(write_npz({"x": pictures, "y": labels}))
        if name != "live":
            (output / f"{name}-dark-ink.npz").write_bytes(write_npz({"x": invert(pictures), "y": labels}))


if __name__ == "__main__":
    main()
