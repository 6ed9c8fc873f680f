"""Small models as TensorFlow and Keras save them, with their inputs and TensorFlow's own answers; seeded.

Run as a program with a folder to write into, so that TensorFlow stays out of the process of the tests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    layers = keras.layers

    def numbers(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32)

    def keep(name: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        arrays: dict[str, Any] = {f"in:{key}": value for key, value in inputs.items()}
        arrays |= {f"out:{key}": np.asarray(one) for key, one in outputs.items()}
        np.savez(folder / f"{name}.npz", **arrays)

    def frozen(function: Any, name: str, *specs: Any) -> None:
        made = convert_variables_to_constants_v2(tf.function(function).get_concrete_function(*specs))
        (folder / f"{name}.pb").write_bytes(made.graph.as_graph_def().SerializeToString())

    conv = keras.Sequential(
        [
            keras.Input((16, 16, 3), name="image"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
            layers.BatchNormalization(
                name="norm", moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2)
            ),
            layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="scores"),
        ]
    )
    image = numbers(1, 16, 16, 3)
    for file in ("conv.keras", "conv.h5"):
        conv.save(folder / file)
        keep(file, {"image": image}, {"scores": conv(image)})
    keep("first", {"image": image}, {"first": conv.layers[0](image)})
    conv.save_weights(folder / "only.weights.h5")
    conv.export(folder / "exported", verbose=False)
    keep("exported", {"image": image}, {"output_0": conv(image)})

    right, left = keras.Input((8,), name="right"), keras.Input((8,), name="left")
    joined = layers.Concatenate()([layers.Dense(6, "relu")(right), left])
    two = keras.Model([right, left], [layers.Dense(2, name="p")(joined), layers.LayerNormalization(name="q")(joined)])
    two.save(folder / "two.keras")
    given = [numbers(1, 8), numbers(1, 8)]
    keep("two.keras", dict(zip(("right", "left"), given, strict=True)), dict(zip("pq", two(given), strict=True)))

    lstm = keras.Sequential(
        [
            keras.Input((12, 7), name="sequence"),
            layers.LSTM(9, return_sequences=True),
            layers.Bidirectional(layers.LSTM(5)),
            layers.Dense(3, name="out"),
        ]
    )
    lstm.save(folder / "lstm.keras")
    sequence = numbers(1, 12, 7)
    keep("lstm.keras", {"sequence": sequence}, {"out": lstm(sequence)})

    module = tf.Module()
    weights, bias = numbers(3, 3, 3, 4), numbers(4)
    module.weights, module.bias = tf.Variable(weights), tf.Variable(bias)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), name="picture"), tf.TensorSpec((), name="gain")])  # type: ignore[untyped-decorator]
    def serve(picture: Any, gain: Any) -> dict[str, Any]:
        value = tf.nn.conv2d(picture, module.weights, 2, "SAME") + module.bias
        return {"z": tf.nn.relu(value) * gain, "a": tf.reduce_mean(value, [1, 2])}

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="v")])  # type: ignore[untyped-decorator]
    def add(v: Any) -> dict[str, Any]:
        return {"sum": v + module.bias}

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="text")])  # type: ignore[untyped-decorator]
    def write(text: Any) -> dict[str, Any]:
        tf.io.write_file(str(folder / "written"), text)
        return {"text": text}

    picture, gain, vector = numbers(2, 9, 11, 3), numbers(), numbers(1, 4)
    tf.saved_model.save(module, folder / "module", signatures={"serving_default": serve, "add": add})
    keep("module", {"picture": picture, "gain": gain}, serve(picture, gain))
    keep("add", {"v": vector}, add(vector))
    tf.saved_model.save(module, folder / "several", signatures={"one": serve, "add": add})
    tf.saved_model.save(module, folder / "unsigned")
    tf.saved_model.save(module, folder / "writes", signatures={"serving_default": write})

    with tf.Graph().as_default() as graph:
        given = tf.compat.v1.placeholder(tf.float32, (None, 9, 11, 3), name="picture")
        inner = tf.nn.relu(tf.nn.conv2d(given, weights, 1, "VALID"), name="inner")
        tf.nn.softmax(tf.reduce_max(inner * 2.0 + bias, [1, 2]), name="prob")
        with tf.compat.v1.Session() as session:
            values = session.run({"prob": "prob:0", "inner": "inner:0"}, {"picture:0": picture})
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    keep("frozen.pb", {"picture": picture}, {"prob": values["prob"]})
    keep("inner", {"picture": picture}, {"inner": values["inner"]})
    keep("after", {"inner": values["inner"]}, {"prob": values["prob"]})

    with tf.Graph().as_default():  # as TensorFlow 1 saved
        given = tf.compat.v1.placeholder(tf.float32, (None, 4), name="given")
        start = tf.compat.v1.get_variable("start", initializer=bias, use_resource=False)
        sums = tf.nn.softmax(given + start, name="sums")
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            keep("old", {"v": vector}, {"sum": session.run(sums, {given: vector})})
            tf.compat.v1.saved_model.simple_save(session, str(folder / "old"), {"v": given}, {"sum": sums})

    def strange(x: Any) -> Any:
        y = tf.math.betainc(x, x, x, name="one") + tf.math.polygamma(x, x, name="two")
        return tf.identity(tf.math.betainc(y, y, y, name="three"), name="end")

    frozen(strange, "strange", tf.TensorSpec((4,), name="x"))
    frozen(lambda x: tf.strings.length(tf.io.read_file(x)), "reads", tf.TensorSpec((), tf.string, name="x"))

    scale = keras.Sequential([keras.Input((4,), name="x"), layers.Lambda(lambda x: x * 3.0, name="threefold")])
    for file in ("lambda.keras", "lambda.h5"):
        scale.save(folder / file)
    keep("lambda", {"x": vector}, {"threefold": 3.0 * vector})

    @keras.saving.register_keras_serializable("mine")
    class Twice(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2.0 * x

    keras.Sequential([keras.Input((4,)), Twice(name="double")]).save(folder / "custom.keras")
    hostile(folder)


def hostile(folder: Path) -> None:
    """Files that refer to others, or claim to be enormous."""
    import h5py
    import tensorflow as tf

    config = json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": []}})
    with h5py.File(folder / "huge.h5", "w") as file:
        file.attrs["model_config"] = config
        file.create_dataset("w", (1 << 30, 1 << 10), np.float32, chunks=(1 << 10, 1 << 10))
    with h5py.File(folder / "elsewhere.h5", "w") as file:
        file.attrs["model_config"] = config
        file["w"] = h5py.ExternalLink("/etc/hostname", "/")
        file.create_dataset("v", (4,), np.uint8, external=[("/etc/hostname", 0, 4)])
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    constant = graph.node.add(name="c", op="Const")
    constant.attr["dtype"].type = 1
    tensor = constant.attr["value"].tensor
    tensor.dtype = 1
    tensor.float_val.append(1.0)
    for _ in range(3):
        tensor.tensor_shape.dim.add(size=1 << 16)
    (folder / "enormous.pb").write_bytes(graph.SerializeToString())
    unknown = tf.compat.v1.GraphDef()
    unknown.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    for name in ("first", "second"):
        unknown.node.add(name=name, op="MyOp", input=["x"])
    (folder / "unknown.pb").write_bytes(unknown.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
