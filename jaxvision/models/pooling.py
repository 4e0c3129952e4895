"""Max-pooling: on CPUs by slices or blocks of the map, on GPUs and TPUs by XLA, with equal results."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxvision.models.convolution import cut_blocks, cut_slices


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _largest_of_slices(inputs, window, strides, padding):
    return _first_largest(cut_slices(inputs, window, strides, padding, -jnp.inf))[0]


@_largest_of_slices.defjvp
def _largest_of_slices_jvp(window, strides, padding, primals, tangents):
    """Pass the gradient to the first of equal values, as XLA does."""
    (inputs,), (tangent,) = primals, tangents
    place = _first_largest(cut_slices(inputs, window, strides, padding, -jnp.inf))[1]
    slices = cut_slices(tangent, window, strides, padding, 0)
    largest = _largest_of_slices(inputs, window, strides, padding)  # so that higher derivatives use this rule too
    return largest, sum(jnp.where(place == index, each, 0) for index, each in enumerate(slices))


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _largest_of_blocks(inputs, window, joined):
    return nn.max_pool(inputs, window, window) if joined else _first_largest(_blocks_apart(inputs, window))[0]


@_largest_of_blocks.defjvp
def _largest_of_blocks_jvp(window, joined, primals, tangents):
    """Pass the gradient to the first of equal values, as XLA does, in one pass over the map by the stored positions."""
    (inputs,), (tangent,) = primals, tangents
    place = _first_largest(_blocks_apart(inputs, window))[1]
    places = np.arange(window[0] * window[1], dtype=place.dtype).reshape(window[0], 1, window[1], 1)
    is_here = place[:, :, None, :, None] == places
    largest = _largest_of_blocks(inputs, window, False)  # XLA would not fuse it with this computation
    return largest, jnp.where(is_here, cut_blocks(tangent, window), 0).sum(axis=(2, 4))


def _blocks_apart(inputs, window):
    """Return the inputs at each position of non-overlapping blocks, [h * w] arrays [N, H', W', C]."""
    blocks = cut_blocks(inputs, window)
    return [blocks[:, :, i, :, j] for i in range(window[0]) for j in range(window[1])]


def _first_largest(values):
    """Return the largest value of each window, [N, H', W', C], and its position in the window, in row-major order."""
    largest, place = values[0], jnp.zeros(values[0].shape, np.min_scalar_type(len(values) - 1))
    for index, value in enumerate(values[1:], 1):
        place = jnp.where(value > largest, jnp.asarray(index, place.dtype), place)
        largest = jnp.maximum(largest, value)
    return largest, place


def max_pool(
    inputs: jax.Array,
    window: tuple[int, int] = (2, 2),
    strides: tuple[int, int] | None = None,
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    *,
    joined: bool = False,
) -> jax.Array:
    """Max-pool [N, H, W, C]; strides default to the window.

    `joined` declares that the inputs come from a convolution built with `pooled` and are not used elsewhere.
    """
    strides = strides or window
    if strides == window and padding == ((0, 0), (0, 0)):
        on_cpu = partial(_largest_of_blocks, window=window, joined=joined)
    else:
        on_cpu = partial(_largest_of_slices, window=window, strides=strides, padding=padding)

    def elsewhere(inputs):
        return nn.max_pool(inputs, window, strides, list(padding))  # pyright: ignore[reportArgumentType]

    return lax.platform_dependent(inputs, cpu=on_cpu, default=elsewhere)
