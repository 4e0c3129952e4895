"""Images made by a generator that a discriminator cannot tell from real ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision.interfaces import Array, Model, Task
from jaxvision.tasks import register


def _generator(model: Model) -> Model:
    generator = (model.parts or {}).get("generator")
    if generator is None:
        raise ValueError("the task 'gan' wants a model with a generator: use --model=gan or --model=dcgan")
    return generator


def sample_keys(inputs: Array) -> Array:
    """Gives a key for each input [B], by its pixels: so a sample depends neither on its batch nor on its place."""
    pixels = jnp.round(inputs.astype(jnp.float32) * (1 if inputs.dtype == jnp.uint8 else 255)).astype(jnp.uint32)
    flat = pixels.reshape(len(pixels), -1)
    weights = jax.random.bits(jax.random.key(0), (flat.shape[1],))
    return jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))((flat * weights).sum(axis=1))


@register("gan", model="gan(hidden=8)")
def gan(*, smoothing: float = 0.0) -> Task:
    """A generator against a discriminator (I. Goodfellow et al., NIPS 2014, section 3), both in one step.

    The discriminator's loss is the cross-entropy of real images, as 1 - smoothing (T. Salimans et al., Improved
    Techniques for Training GANs, NIPS 2016, section 3.4), and made ones, as 0; the generator's that of made ones as 1,
    the one that does not saturate. Each acts on its own parameters alone. Their rates are the optimizer's: by_part.
    Predictions are images in 0..1, one for each input, whose pixels seed it.
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"gan: smoothing={smoothing}; wanted at least 0 and below 0.5, as 0.1")

    return Task(
        output_size=1,
        loss=_make_loss(smoothing),
        predict=_predict,
        decide=lambda predictions: predictions,
        describe=_describe,
        score=lambda targets, predictions: {},
        report=lambda targets, predictions, classes: {},
        headline="generator_loss",
    )


def _make_loss(smoothing: float):
    """Build the task's loss: each part's by itself, and their sum."""

    def loss(model, params, state, batch, *, train, key):
        real = batch["inputs"]
        keys = sample_keys(real)
        own = [None] * 4
        if key is not None:
            of_samples, *own = jax.random.split(key, 5)
            keys = jax.random.split(of_samples, len(real))
        made, state = _generator(model).apply(params, state, keys, train=train, key=own[0])
        fixed = {**params, "discriminator": jax.lax.stop_gradient(params["discriminator"])}
        of_real, state = model.apply(params, state, real, train=train, key=own[1])
        of_made, state = model.apply(params, state, jax.lax.stop_gradient(made), train=train, key=own[2])
        fooled, _ = model.apply(fixed, state, made, train=train, key=own[3])
        share = smoothing if train else 0.0
        real_loss = (1 - share) * jax.nn.softplus(-of_real[:, 0]) + share * jax.nn.softplus(of_real[:, 0])
        values = {
            "discriminator_loss": real_loss + jax.nn.softplus(of_made[:, 0]),
            "generator_loss": jax.nn.softplus(-fooled[:, 0]),
            "real_accuracy": (of_real[:, 0] > 0).astype(jnp.float32),
            "made_accuracy": (of_made[:, 0] < 0).astype(jnp.float32),
        }
        return {"loss": values["discriminator_loss"] + values["generator_loss"], **values}, state

    return loss


def _predict(model, params, state, batch):
    made, _ = _generator(model).apply(params, state, sample_keys(batch["inputs"]), train=False, key=None)
    return made


def _describe(prediction, decided, *, classes, top):
    raise ValueError("a generator has nothing to say of an image: `jaxvision evaluate` draws what it makes")
