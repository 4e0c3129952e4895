"""The same networks in Keras on JAX."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"  # before the import below

import jax
import keras
import numpy as np
from keras import layers

from jaxvision import registry
from jaxvision.benchmarks.works import LEARNING_RATE, Work, batch

LIBRARIES = ("keras", "jax")
VARIANTS = ("",)
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
    depths, are_bottlenecks = DEPTHS[registry.parse(work.model).name]

    def conv(x, size, window, stride, name):
        if window > 1:
            x = layers.ZeroPadding2D(window // 2)(x)  # as ours and PyTorch's pad, also where the stride is 2
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
    """`Model.train_on_batch`'s compiled function, called as `fit` calls it."""

    def __init__(self, work: Work, tensors: dict[str, np.ndarray], *, precision: str, variant: str) -> None:
        del variant
        keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bf16" else "float32")
        self._network = (_cnn if work.model == "cnn" else _resnet)(work)
        for layer in self._network.layers:
            parts, path = PARTS.get(type(layer), ()), layer.name.replace(".", "/")
            if parts:
                layer.set_weights([tensors[f"{path}/{part}"] for part in parts if f"{path}/{part}" in tensors])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._network.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
        inputs, targets = batch(work)
        self._inputs, self._targets = jax.device_put(inputs), jax.device_put(targets)
        self._answer = None

    def loss(self) -> float:
        return float(self._network.train_on_batch(self._inputs, self._targets))

    def train(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self._network.train_on_batch(self._inputs, self._targets)

    def answer(self, num_steps: int) -> None:
        for _ in range(num_steps):
            self._network.predict_on_batch(self._inputs)
