"""Pairs of an image generator and a discriminator (I. Goodfellow et al., Generative Adversarial Nets, NIPS 2014).

The model itself is the discriminator of images [B, H, W, C]; `parts["generator"]` generates an image in 0..1 from each
of its keys [B].
"""

from __future__ import annotations

import flax.linen as nn
import jax

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import BatchNorm, Conv
from jaxvision.models.linen import from_linen, tap

Size = tuple[int, ...]


def _noise(keys: jax.Array, noise_size: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.normal(key, (noise_size,)))(keys)


def _pair(generator: Model, discriminator: Model) -> Model:
    """Combine a discriminator with a generator as its part; parameters and state are dicts by part."""

    def init(key, inputs):
        keys = jax.random.split(key)
        pairs = {
            "generator": generator.init(keys[0], jax.random.split(key, 1)),
            "discriminator": discriminator.init(keys[1], inputs),
        }
        return {name: params for name, (params, _) in pairs.items()}, {
            name: state for name, (_, state) in pairs.items()
        }

    def apply(params, state, inputs, *, train, key):
        part = "discriminator"
        outputs, new = discriminator.apply(params[part], state[part], inputs, train=train, key=key)
        return outputs, {**state, part: new}

    def generate(params, state, keys, *, train, key):
        part = "generator"
        images, new = generator.apply(params[part], state[part], keys, train=train, key=key)
        return images, {**state, part: new}

    def features(params, state, inputs, **options):
        assert discriminator.features is not None
        return discriminator.features(params["discriminator"], state["discriminator"], inputs, **options)

    def synchronize(axis):
        assert generator.synchronize is not None and discriminator.synchronize is not None
        return _pair(generator.synchronize(axis), discriminator.synchronize(axis))

    parts = {"generator": Model(init=init, apply=generate)}
    return Model(init=init, apply=apply, features=features, parts=parts, synchronize=synchronize)


class Generator(nn.Module):
    image_size: Size
    noise_size: int
    hidden: int

    @nn.compact
    def __call__(self, keys):
        x = nn.relu(nn.Dense(self.hidden, name="dense")(_noise(keys, self.noise_size)))
        height, width, channels = self.image_size
        x = nn.sigmoid(nn.Dense(height * width * channels, name="head")(x))
        return x.reshape(-1, *self.image_size)


class Discriminator(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.hidden, name="dense")(x.reshape(len(x), -1)))
        return nn.Dense(1, name="head")(tap(self, "pooled", x))


@register("gan", num_parameters=214_673, input_size=(28, 28, 1), output_size=1)
def gan(*, output_size: int, input_size: Size, noise_size: int = 100, hidden: int = 128) -> Model:
    """Build the introductory GAN: a generator and a discriminator with one hidden layer each.

    The generator maps noise to hidden ReLU units to an image in 0..1; the discriminator maps an image to hidden ReLU
    units to one logit.

    Args:
        output_size: must be 1; set by the run.
        input_size: size of the images; set by the run.
        noise_size: dimension of the noise.
        hidden: number of hidden units.
    """
    _check(output_size, noise_size, hidden)
    generator = from_linen(Generator(input_size, noise_size, hidden))
    return _pair(generator, from_linen(Discriminator(hidden), head="head"))


class ConvGenerator(nn.Module):
    image_size: Size
    noise_size: int
    width: int

    @nn.compact
    def __call__(self, keys, *, train: bool):
        height, width, channels = self.image_size

        def normed(x, name):
            return nn.relu(BatchNorm(use_running_average=not train, name=name)(x))

        rows, columns = -(-height // 4), -(-width // 4)
        x = nn.Dense(rows * columns * 2 * self.width, name="dense")(_noise(keys, self.noise_size))
        x = normed(x.reshape(-1, rows, columns, 2 * self.width), "norm1")
        for index, (size, last) in enumerate(((self.width, False), (channels, True)), 1):
            x = x.repeat(2, axis=1).repeat(
                2, axis=2
            )  # resize, then convolve: avoids checkerboard artifacts (A. Odena et al., 2016)
            x = Conv(size, (5, 5), padding="SAME", name="head" if last else f"conv{index}")(x)
            x = x if last else normed(x, f"norm{index + 1}")
        return nn.sigmoid(x[:, :height, :width])


class ConvDiscriminator(nn.Module):
    width: int
    dropout: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        for index, size in enumerate((self.width, 2 * self.width), 1):
            x = nn.leaky_relu(Conv(size, (5, 5), (2, 2), padding="SAME", name=f"conv{index}")(x), 0.2)
            x = nn.Dropout(self.dropout, deterministic=not train)(tap(self, f"conv{index}", x))
        return nn.Dense(1, name="head")(tap(self, "pooled", x.reshape(len(x), -1)))


@register("dcgan", input_size=(28, 28, 1), output_size=1)
def dcgan(*, output_size: int, input_size: Size, noise_size: int = 100, width: int = 64, dropout: float = 0.0) -> Model:
    """Build a convolutional GAN (DCGAN, A. Radford et al., ICLR 2016, section 3).

    (Unsupervised Representation Learning with Deep Convolutional GANs.) The generator upsamples a map of 2 * width
    channels twice, by nearest neighbor and a 5x5 convolution. The discriminator downsamples the image twice by 5x5
    convolutions of width and 2 * width channels.

    Args:
        output_size: must be 1; set by the run.
        input_size: size of the images; set by the run.
        noise_size: dimension of the noise.
        width: base number of channels.
        dropout: dropout rate after each convolution of the discriminator.
    """
    _check(output_size, noise_size, width)
    generator = from_linen(ConvGenerator(input_size, noise_size, width))
    return _pair(generator, from_linen(ConvDiscriminator(width, dropout), head="head"))


def _check(output_size: int, noise_size: int, width: int) -> None:
    if output_size != 1:
        raise ValueError(f"a discriminator has one output, not {output_size}; use --task=gan")
    if noise_size < 1 or width < 1:
        raise ValueError(f"noise_size={noise_size}, layer size {width}; expected sizes of at least 1")
