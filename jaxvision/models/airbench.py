"""The network of the CIFAR-10 speed records (K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024).

Numbers are those of the author's `airbench94_muon`, which reaches 94.01 % in 8 epochs.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.convolution import conv_general
from jaxvision.models.layers import BatchNorm, Conv, PooledConv, require_least_size
from jaxvision.models.linen import from_linen, tap
from jaxvision.models.pooling import max_pool

WHITENED = 2  # side in pixels of the whitened patches
EPSILON = 5e-4  # added to the patch variances, to bound the scale of nearly constant components
Norm = partial(BatchNorm, momentum=0.6, epsilon=1e-12, use_scale=False)


def _passing_on(key, shape, dtype=jnp.float32):
    """Initialize a kernel [kh, kw, I, O] as the identity in its first I outputs and at random in the others."""
    height, width, num_inputs, num_outputs = shape
    bound = (height * width * num_inputs) ** -0.5  # PyTorch's default for convolutions
    kernel = jax.random.uniform(key, shape, dtype, -bound, bound)
    num = min(num_inputs, num_outputs)
    same = (
        jnp.zeros((height, width, num_inputs, num), dtype)
        .at[height // 2, width // 2]
        .set(jnp.eye(num_inputs, num, dtype=dtype))
    )
    return kernel.at[..., :num].set(same)


def _unit_deviation(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


def whitening(images: jax.Array) -> jax.Array:
    """Return the kernel [2, 2, C, 8 C] that whitens the patches of images [N, H, W, C], and its negative (section 3.2).

    Its columns are the eigenvectors of the patches' second moments, divided by the square roots of the eigenvalues.
    """
    height, width, channels = images.shape[1:]
    slices = [
        images[:, i : height - WHITENED + 1 + i, j : width - WHITENED + 1 + j]
        for i in range(WHITENED)
        for j in range(WHITENED)
    ]
    patches = jnp.concatenate(slices, axis=-1).reshape(-1, WHITENED**2 * channels)
    values, vectors = jnp.linalg.eigh(patches.T @ patches / len(patches))
    vectors = (vectors / jnp.sqrt(values + EPSILON)).reshape(WHITENED, WHITENED, channels, -1)
    return jnp.concatenate([vectors, -vectors], axis=-1)


class Block(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, x, train: bool):
        options = {"use_bias": False, "kernel_init": _passing_on}
        conv, pooled_conv = (partial(kind, self.channels, (3, 3), **options) for kind in (Conv, PooledConv))
        norm = partial(Norm, use_running_average=not train)
        x = nn.gelu(norm(name="norm1")(max_pool(pooled_conv(name="conv1")(x), joined=True)), approximate=False)
        return nn.gelu(norm(name="norm2")(conv(name="conv2")(x)), approximate=False)


class Airbench(nn.Module):
    output_size: int
    channels: tuple[int, int, int]

    @nn.compact
    def __call__(self, x, *, train: bool):
        require_least_size(x, name="airbench94", least=8 + WHITENED - 1)
        shape = (WHITENED, WHITENED, x.shape[-1], 2 * WHITENED**2 * x.shape[-1])
        kernel = self.variable(
            "whitening",
            "kernel",
            lambda: nn.initializers.variance_scaling(1.0, "fan_in", "normal")(self.make_rng("params"), shape),
        )
        numbers = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        x = conv_general(x, kernel.value.astype(x.dtype), (1, 1), "VALID", dimension_numbers=numbers)
        bias = self.param("whitening_bias", nn.initializers.zeros_init(), shape[-1:])
        x = tap(self, "stem", nn.gelu(x + bias, approximate=False))
        for index, channels in enumerate(self.channels, 1):
            x = tap(self, f"block{index}", Block(channels, name=f"block{index}")(x, train))
        x = tap(self, "pooled", x.max(axis=(1, 2)) / self.channels[-1])
        return nn.Dense(self.output_size, use_bias=False, kernel_init=_unit_deviation, name="head")(x)


@register("airbench94", num_parameters=1_971_352, input_size=(32, 32, 3))
def airbench94(*, output_size: int, channels: tuple[int, int, int] = (64, 256, 256)) -> Model:
    """Build the speed-record network: a fixed whitening layer and three convolutional blocks.

    The training images fix the layer that whitens 2x2 patches; a block has two convolutions. For images of about 32
    pixels (at least 9); use the optimizer `muon_sgd`.
    """
    if min(channels) < 1:
        raise ValueError(f"airbench94: channels={channels}; expected three numbers of channels, each at least 1")

    def adapt(params, state, inputs):
        return params, {**state, "whitening": {"kernel": whitening(inputs)}}

    return from_linen(Airbench(output_size, channels), head="head", adapt=adapt)
