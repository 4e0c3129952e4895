"""The same networks in Keras on JAX."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"  # before the import below

from collections.abc import Sequence
from typing import Any

import jax
import keras
import numpy as np
from keras import layers

from benchmarks.works import EPSILON, LEARNING_RATE, Work, batch, read_weights
from jaxvision import specs

LIBRARIES = ("keras", "jax")
PARTS = {  # the order in which a layer of Keras lists its weights
    layers.Conv2D: ("kernel", "bias"),
    layers.Dense: ("kernel", "bias"),
    layers.BatchNormalization: ("scale", "bias", "mean", "var"),
}
DEPTHS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}  # and whether blocks are bottlenecks


def _cnn(work: Work) -> keras.Model:
    sizes = enumerate((32, 64, 64), 1)
    hidden = [
        layer
        for index, size in sizes
        for layer in (
            layers.Conv2D(size, 3, activation="relu", name=f"conv{index}"),
            *([layers.MaxPooling2D()] if index < 3 else []),
        )
    ]
    last = [
        layers.Flatten(),
        layers.Dense(64, activation="relu", name="dense1"),
        layers.Dense(work.num_classes, name="head"),
    ]
    return keras.Sequential([keras.Input(work.input_size), *hidden, *last])


def _resnet(work: Work) -> keras.Model:
    depths, are_bottlenecks = DEPTHS[specs.parse(work.model).name]

    def conv(x, size, window, stride, name):
        if window > 1:
            x = layers.ZeroPadding2D(window // 2)(x)  # the padding of ours and PyTorch's, also for stride 2
        return layers.Conv2D(size, window, stride, use_bias=False, name=name)(x)

    def norm(x, name):
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def block(x, size, stride, name):
        out = 4 * size if are_bottlenecks else size
        plan = ((size, 1, 1), (size, 3, stride), (out, 1, 1)) if are_bottlenecks else ((size, 3, stride), (size, 3, 1))
        y = x
        for index, (width, window, pace) in enumerate(plan, 1):
            y = norm(conv(y, width, window, pace, f"{name}.conv{index}"), f"{name}.norm{index}")
            y = y if index == len(plan) else layers.ReLU()(y)
        if x.shape != y.shape:
            x = norm(conv(x, out, 1, stride, f"{name}.shortcut_conv"), f"{name}.shortcut_norm")
        return layers.ReLU()(x + y)

    inputs = keras.Input(work.input_size)
    is_small = "cifar" in work.model
    x = layers.ReLU()(norm(conv(inputs, 64, 3 if is_small else 7, 1 if is_small else 2, "stem_conv"), "stem_norm"))
    x = x if is_small else layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # of values that are 0 or above
    for stage, depth in enumerate(depths, 1):
        for index in range(1, depth + 1):
            stride = 2 if stage > 1 and index == 1 else 1
            x = block(x, 64 * 2 ** (stage - 1), stride, f"stage{stage}_block{index}")
    return keras.Model(inputs, layers.Dense(work.num_classes, name="head")(layers.GlobalAveragePooling2D()(x)))


class Contestant:
    """Trains with `Model.fit` on a batch on the device, and predicts with a compiled `Model.stateless_call`.

    Both are faster than `train_on_batch` and `predict_on_batch`, which move the state in and out at each step.
    """

    def __init__(self, work: Sequence[Any], weights: str, *, precision: str) -> None:
        work, tensors = Work(*work), read_weights(weights)
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else "float32")
        self._network = (_cnn if work.model == "cnn" else _resnet)(work)
        for layer in self._network.layers:
            parts, path = PARTS.get(type(layer), ()), layer.name.replace(".", "/")
            if parts:
                layer.set_weights([tensors[f"{path}/{part}"] for part in parts if f"{path}/{part}" in tensors])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._network.compile(keras.optimizers.Adam(LEARNING_RATE, epsilon=EPSILON), loss, jit_compile=True)  # pyright: ignore[reportArgumentType]
        self._batch = jax.device_put(batch(work))
        self._answer = jax.jit(
            lambda trained, others, x: self._network.stateless_call(trained, others, x, training=False)[0]
        )

    def loss(self) -> float:
        return float(self._fit(1).history["loss"][0])

    def outputs(self) -> np.ndarray:
        return np.asarray(self._answer(*self._variables(), self._batch[0]), np.float32)

    def train(self, num_steps: int) -> None:
        self._fit(num_steps)

    def _fit(self, num_steps: int) -> Any:
        batches = (self._batch for _ in range(num_steps))
        history = self._network.fit(batches, steps_per_epoch=num_steps, epochs=1, verbose=0)  # pyright: ignore[reportArgumentType]
        jax.block_until_ready(self._variables())
        return history

    def answer(self, num_steps: int) -> None:
        variables, before = self._variables(), None
        for _ in range(num_steps):
            before, _ = self._answer(*variables, self._batch[0]), jax.block_until_ready(before)
        jax.block_until_ready(before)

    def _variables(self) -> tuple[list[Any], list[Any]]:
        network = self._network
        return [v.value for v in network.trainable_variables], [v.value for v in network.non_trainable_variables]

    def device_memory(self) -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
