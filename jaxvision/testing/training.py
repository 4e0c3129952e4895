"""Does an optimizer, a schedule or an augmentation keep its contract?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import registry, specs
from jaxvision.engine import step
from jaxvision.interfaces import Model, Task
from jaxvision.testing.trees import equal, finite


def check_optimizer(spec: str, *, num_steps: int = 200) -> None:
    """Check that an optimizer brings a small regression's loss down, at its own default rate times a cosine."""
    name = specs.parse(spec).name
    peak = registry.optimizers.default(name, "learning_rate")
    assert isinstance(peak, float), "learning_rate has no default"
    schedule = registry.schedules.build("cosine", learning_rate=peak, num_steps=num_steps)
    optimizer = registry.optimizers.build(spec, learning_rate=schedule)
    model: Model = registry.models.build("mlp(hidden=(16,))", output_size=2)
    model = _in_parts(model, registry.optimizers.entry(name).metadata.get("parts", ()))
    task: Task = registry.tasks.build("multiclass", num_classes=2)
    inputs = jax.random.normal(jax.random.key(1), (64, 4, 4, 1))
    batch = {"inputs": inputs, "targets": (inputs.sum(axis=(1, 2, 3)) > 0).astype(jnp.int32), "mask": jnp.ones(64)}
    state = step.init_state(model, optimizer, inputs[:1], seed=0)
    train_step = step.make_train_step(
        model, task, optimizer, lambda key, batch: batch, gradient=registry.gradients.build("mean")
    )
    losses = []
    for _ in range(num_steps):
        state, means = train_step(state, batch)
        losses.append(float(means["loss"]))
    assert math.isfinite(losses[-1]) and losses[-1] < 0.9 * losses[0], f"loss went from {losses[0]} to {losses[-1]}"


def _in_parts(model: Model, parts: Sequence[str]) -> Model:
    """Return a model of several such parts, whose outputs are averaged, or the model itself if there are none."""
    if not parts:
        return model

    def init(key, inputs):
        made = {
            part: model.init(key, inputs) for part, key in zip(parts, jax.random.split(key, len(parts)), strict=True)
        }
        return {part: params for part, (params, _) in made.items()}, {part: state for part, (_, state) in made.items()}

    def apply(params, state, inputs, *, train, key):
        found = {part: model.apply(params[part], state[part], inputs, train=train, key=key) for part in parts}
        mean = jnp.mean(jnp.stack([outputs for outputs, _ in found.values()]), axis=0)
        return mean, {part: new for part, (_, new) in found.items()}

    return Model(init, apply)


def check_schedule(spec: str, *, num_steps: int = 100) -> None:
    """Check that the peak is reached and never passed, and that the rate stays finite and not negative."""
    schedule = registry.schedules.build(spec, learning_rate=0.5, num_steps=num_steps)
    rates = np.array([float(schedule(i)) for i in range(num_steps)])
    assert np.isfinite(rates).all() and (rates >= 0).all(), "a rate is negative or not finite"
    assert math.isclose(rates.max(), 0.5, rel_tol=0.02), f"the peak is {rates.max()}, expected 0.5"


def check_augmentation(spec: str) -> None:
    """Check that an augmentation keeps shapes, type and range, is a function of key and batch, and draws by example.

    Targets stay, or become probabilities [B, C] that sum to 1. The other rows of the batch stay.
    """
    num = 32
    augment = jax.jit(registry.augmentations.build(spec, num_classes=num, seed=0))
    inputs = jax.random.uniform(jax.random.key(1), (num, 16, 20, 3))
    index = jnp.arange(num, dtype=jnp.int32)
    batch = {"inputs": inputs, "targets": index, "mask": jnp.ones(num), "index": index, "epoch": jnp.zeros_like(index)}
    one, again = (augment(jax.random.key(0), batch) for _ in range(2))
    assert one["inputs"].shape == inputs.shape and one["inputs"].dtype == inputs.dtype, "shape or type changed"
    assert bool((one["inputs"] >= 0).all() and (one["inputs"] <= 1).all()), "inputs left 0..1"
    assert equal(one, again), "the same key returned two results"
    later = augment(jax.random.key(3), {**batch, "epoch": batch["epoch"] + 1})
    assert not equal(one["inputs"], later["inputs"]), "neither the key nor the epoch changes anything"
    same = augment(jax.random.key(0), {**batch, "inputs": jnp.broadcast_to(inputs[:1], inputs.shape)})["inputs"]
    is_mixing = one["targets"].ndim == 2  # a mixing augmentation only shows where images differ
    assert is_mixing or not bool((same == same[:1]).all()), "all examples are changed alike"
    assert equal({**one, "inputs": 0, "targets": 0}, {**batch, "inputs": 0, "targets": 0}), "other rows changed"
    if is_mixing:
        assert jnp.allclose(one["targets"].sum(axis=1), 1, atol=1e-5), "soft targets do not sum to 1"
    else:
        assert equal(one["targets"], index), "targets changed"
    gray = augment(jax.random.key(0), {**batch, "inputs": inputs[..., :1]})["inputs"]
    assert gray.shape == (num, 16, 20, 1) and finite(gray), "gray images have another shape, or are not finite"
