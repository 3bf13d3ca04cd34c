"""Keras models for the tests, with inputs and Keras's own answers: run in a process of its own.

python keras_models.py FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_HOME": sys.argv[1],
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}

import keras
import numpy as np
import tensorflow as tf
from keras import layers


def functional() -> Any:
    """Two inputs in an order that is not the alphabet's, two outputs as well."""
    picture, extra = keras.Input((16, 16, 3), name="picture"), keras.Input((4,), name="extra")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(picture)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Dropout(0.5)(layers.DepthwiseConv2D(3, padding="same", activation="silu")(x))
    up = layers.Conv2DTranspose(4, 2, strides=2, activation="tanh", name="picture_again")(x)
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.LayerNormalization()(extra)])
    return keras.Model([picture, extra], [layers.Dense(5, activation="softmax", name="kind")(pooled), up])


def classifier() -> Any:
    """For whole builds: small, and answers that differ."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(8, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@keras.saving.register_keras_serializable("ours")
class Doubled(layers.Layer):  # type: ignore[misc]
    """A layer that no file carries the code of."""

    def call(self, x: Any) -> Any:
        return x * 2


def saved(folder: Path) -> None:
    """A SavedModel with several signatures, none of which is the default one, and one with open sizes."""
    module = tf.Module()
    module.weights = tf.Variable(tf.random.normal((6, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def dense(x: Any) -> Any:
        return {"scores": tf.nn.softmax(x @ module.weights), "raw": x @ module.weights}

    @tf.function(input_signature=[tf.TensorSpec((None, None, 6), tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def open_length(x: Any) -> Any:
        return {"mean": tf.reduce_mean(x, 1)}

    @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def writes(x: Any) -> Any:
        tf.io.write_file("written-by-a-model", tf.strings.as_string(x[0, 0]))
        return {"y": x}

    tf.saved_model.save(module, folder / "saved", {"dense": dense, "open_length": open_length})
    tf.saved_model.save(module, folder / "writes", {"serving_default": writes})
    x = np.random.RandomState(0).randn(4, 6).astype(np.float32)
    np.savez(folder / "saved.npz", in0=x, **{k: v.numpy() for k, v in dense(tf.constant(x)).items()})


def main(folder: Path) -> None:
    """Write every model, with what Keras answers."""
    keras.utils.set_random_seed(0)
    random = np.random.RandomState(0)
    model = functional()
    for weights in model.weights:  # statistics that are not those of an untrained layer
        weights.assign(weights.numpy() + random.uniform(0, 0.3, weights.shape))
    feeds = [random.rand(4, 16, 16, 3).astype(np.float32), random.randn(4, 4).astype(np.float32)]
    answers = [a.numpy() for a in model(feeds, training=False)]
    np.savez(folder / "functional.npz", in0=feeds[0], in1=feeds[1], out0=answers[0], out1=answers[1])
    model.save(folder / "functional.keras")
    model.save(folder / "functional.h5")
    sequential = classifier()
    sequential.save(folder / "classifier.keras")
    x = random.rand(4, 8, 8, 1).astype(np.float32)
    np.savez(folder / "classifier.npz", in0=x, out0=sequential(x, training=False).numpy())
    inputs = keras.Input((4,))
    keras.Model(inputs, Doubled()(inputs)).save(folder / "custom.keras")
    keras.Model(inputs, layers.Lambda(lambda x: x + 1, name="plus")(inputs)).save(folder / "lambda.h5")
    keras.Model(inputs, layers.Lambda(lambda x: x + 1, name="plus")(inputs)).save(folder / "lambda.keras")
    model.save_weights(folder / "only.weights.h5")
    saved(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
