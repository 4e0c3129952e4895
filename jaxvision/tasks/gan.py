"""Generative adversarial networks: a generator trained against a discriminator."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Model, Task
from jaxvision.tasks import register


def _generator(model: Model) -> Model:
    generator = (model.parts or {}).get("generator")
    if generator is None:
        raise ValueError("the task 'gan' needs a model with a generator; use --model=gan or --model=dcgan")
    return generator


def sample_keys(inputs: Array) -> Array:
    """Return a key per input [B], derived from its pixels.

    A sample therefore does not depend on its batch or its position in it.
    """
    pixels = jnp.round(inputs.astype(jnp.float32) * (1 if inputs.dtype == jnp.uint8 else 255)).astype(jnp.uint32)
    flat = pixels.reshape(len(pixels), -1)
    weights = jax.random.bits(jax.random.key(0), (flat.shape[1],))
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))((flat * weights).sum(axis=1))


@register("gan", model="gan(hidden=8)")
def gan(*, smoothing: float = 0.0) -> Task:
    """Train a generator against a discriminator (GAN, I. Goodfellow et al., 2014).

    (Generative Adversarial Nets, NIPS 2014, section 3.) Both learn in the same step. The discriminator minimizes the
    cross-entropy of real images, with target 1 - smoothing (T. Salimans et al., Improved Techniques for Training GANs,
    NIPS 2016, section 3.4), and generated images, with target 0. The generator minimizes the non-saturating loss, with
    target 1. Each loss updates only its own part; the optimizer 'partition' sets their learning rates. Predictions are
    images in 0..1, one per input, whose pixels seed the noise. Raises ValueError if smoothing is not in [0, 0.5).
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"gan: smoothing={smoothing}; expected at least 0 and below 0.5, e.g. 0.1")

    return Task(
        output_size=1,
        loss=_make_loss(smoothing),
        predict=_predict,
        predict_labels=lambda predictions: predictions,
        describe=_describe,
        score=lambda targets, predictions: {},
        report=lambda targets, predictions, classes: {},
        headline="generator_loss",
    )


def _make_loss(smoothing: float):
    """Build the task's loss: the losses of both parts, and their sum."""

    def loss(model, params, state, batch, *, train, key):
        real = batch["inputs"]
        keys = sample_keys(real)
        layer_keys = [None] * 4
        if key is not None:
            noise_key, *layer_keys = jax.random.split(key, 5)
            keys = jax.random.split(noise_key, len(real))
        fake, state = _generator(model).apply(params, state, keys, train=train, key=layer_keys[0])
        frozen = {**params, "discriminator": jax.lax.stop_gradient(params["discriminator"])}
        real_logits, state = model.apply(params, state, real, train=train, key=layer_keys[1])
        fake_logits, state = model.apply(params, state, jax.lax.stop_gradient(fake), train=train, key=layer_keys[2])
        generator_logits, _ = model.apply(frozen, state, fake, train=train, key=layer_keys[3])
        smooth = smoothing if train else 0.0
        real_loss = (1 - smooth) * jax.nn.softplus(-real_logits[:, 0]) + smooth * jax.nn.softplus(real_logits[:, 0])
        values = {
            "discriminator_loss": real_loss + jax.nn.softplus(fake_logits[:, 0]),
            "generator_loss": jax.nn.softplus(-generator_logits[:, 0]),
            "real_accuracy": (real_logits[:, 0] > 0).astype(jnp.float32),
            "fake_accuracy": (fake_logits[:, 0] < 0).astype(jnp.float32),
        }
        return {"loss": values["discriminator_loss"] + values["generator_loss"], **values}, state

    return loss


def _predict(model, params, state, batch):
    images, _ = _generator(model).apply(params, state, sample_keys(batch["inputs"]), train=False, key=None)
    return images


def _describe(prediction, predicted, *, classes, top):
    raise ValueError("the task 'gan' does not predict targets; use `jaxvision evaluate` to draw generated images")
