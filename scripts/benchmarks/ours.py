"""The steps of jaxvision, without the loop around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.works import EPSILON, LEARNING_RATE, Work, batch, read_weights
from jaxvision import registry
from jaxvision.distributed import compilation
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import precision as precisions
from jaxvision.engine import step
from jaxvision.interfaces import Preprocessing
from jaxvision.weights.mapping import fit, tensors_of

LIBRARIES = ("jax", "flax")


def _built(work: Work, precision: str):
    height, width, channels = work.input_size
    plain = Preprocessing((height, width), channels, (0.0,) * channels, (1.0,) * channels)
    model = registry.models.build(work.model, output_size=work.num_classes, input_size=work.input_size)
    return precisions.with_precision(model, plain, precision=precision)


def write_weights(work: Work, file: Path) -> None:
    """Write the initial parameters and statistics of the network, by our paths, for all contestants."""
    inputs = np.zeros((1, *work.input_size), np.float32)
    params, state = compilation.compile_init(_built(work, "f32").init)(jax.random.key(0), inputs)
    np.savez(file, **tensors_of(params, state))


class Contestant:
    """The compiled training step and evaluation step of `jaxvision train`."""

    def __init__(self, work: Sequence[Any], weights: str, *, precision: str) -> None:
        work = Work(*work)
        model = _built(work, precision)
        inputs, targets = batch(work)
        shapes = jax.eval_shape(model.init, jax.random.key(0), inputs[:1])
        start = fit(read_weights(weights), shapes[0], shapes[1], {})
        optimizer = registry.optimizers.build("adam", learning_rate=LEARNING_RATE, eps=EPSILON)
        task = registry.tasks.build("multiclass", num_classes=work.num_classes)
        state = step.init_state(model, optimizer, jnp.asarray(inputs[:1]), seed=0, start=(start.params, start.state))
        mesh = meshes.make_mesh("data=1")
        whole = {"inputs": inputs, "targets": targets, "mask": np.ones(len(targets), np.float32)}
        train = step.make_train_step(
            model, task, optimizer, lambda key, batch: batch, gradient=registry.gradients.build("mean")
        )
        self._batch = meshes.put_batch(whole, mesh)
        self._state = jax.device_put(state, meshes.state_shardings(state, mesh))
        self._step = compilation.compile_step(train, self._state, self._batch, mesh)
        self._answer = jax.jit(lambda params, state, x: model.apply(params, state, x, train=False, key=None)[0])

    def loss(self) -> float:
        self._state, means, _ = self._step(self._state, self._batch)
        return float(means["loss"])

    def outputs(self) -> np.ndarray:
        return np.asarray(self._answered(), np.float32)

    def train(self, num_steps: int) -> None:
        before = None
        for _ in range(num_steps):
            self._state, means, _ = self._step(self._state, self._batch)
            jax.block_until_ready(before)  # the step before, as the launcher's loop does
            before = means
        jax.block_until_ready(self._state)

    def answer(self, num_steps: int) -> None:
        before = None
        for _ in range(num_steps):
            before, _ = self._answered(), jax.block_until_ready(before)
        jax.block_until_ready(before)

    def _answered(self) -> jax.Array:
        return self._answer(self._state.params, self._state.model_state, self._batch["inputs"])

    def device_memory(self) -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
