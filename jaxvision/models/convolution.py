"""Convolution and matrix product, each in the form that suits the platform and the shapes.

On CPUs, XLA's convolutions are near the speed of matrix products (jaxlib 0.10 and 0.12), with exceptions that are
computed here as one matrix product of concatenated slices: few input channels (two cores, [128, 32, 32, 3] to 32 by
3x3: 2 ms, XLA 8 ms), windows that do not overlap, such as 1x1, and maps smaller than the window ([128, 2, 2, 512] by
3x3: 7 ms, XLA 833 ms). A depthwise convolution is a sum of slices times their weights ([16, 56, 56, 144] by 3x3: 4 ms,
XLA 156 ms; with gradients 118 and 562 ms). GPUs and TPUs use XLA's convolutions. Results agree up to float rounding.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

NHWC = ("NHWC", "HWIO", "NHWC")
FEW_CHANNELS = 16  # with fewer, extra rows do not help, and the kernel is negligible for the size of a part
FEW_COLUMNS = 32  # of the matrix of slices: slices are faster with 27; with 147, a ResNet's 7x7, XLA is (125 and 44 ms)
CACHE_BYTES = 2**21  # size of a part of a batch: about a core's own cache
MOST_PARTS = 32  # each part compiles its own convolution
FEW_ROWS = 10  # of a map; extra rows would cost too much for smaller ones
ONE_TASK = 64  # channels that XLA's plan for even padding assigns to one core
MOST_MORE = 0.25  # maximum fraction of extra rows; 7 rows to 22 is slower
MOST_SLICES = 25  # of a depthwise convolution: ConvNeXt's 49 would halve the step time but compile seven times as long


def _convolution(lhs, rhs, *, strides, padding, groups=1):
    return lax.conv_general_dilated(lhs, rhs, strides, padding, dimension_numbers=NHWC, feature_group_count=groups)


def cut_slices(inputs, window, strides, padding, fill):
    """Return the inputs at each position of the window, [kh * kw] arrays [N, H', W', C]."""
    inputs = lax.pad(inputs, jnp.asarray(fill, inputs.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])
    n, height, width, channels = inputs.shape
    rows, columns = ((size - w) // s * s + 1 for size, w, s in zip((height, width), window, strides, strict=True))
    return [
        lax.slice(inputs, (0, i, j, 0), (n, i + rows, j + columns, channels), (1, *strides, 1))
        for i in range(window[0])
        for j in range(window[1])
    ]


def cut_blocks(inputs, window):
    """Split [N, H, W, C] into adjacent blocks, [N, H', h, W', w, C]; the remainder at the end is dropped."""
    n, height, width, channels = inputs.shape
    rows, columns = height // window[0], width // window[1]
    inputs = inputs[:, : rows * window[0], : columns * window[1]]
    return inputs.reshape(n, rows, window[0], columns, window[1], channels)


def _matrix_product(lhs, rhs, *, strides, padding):
    """Convolve by one matrix product; the barrier keeps XLA from recomputing the concatenated slices."""
    height, width, _, outputs = rhs.shape
    if strides == (height, width) and padding == (
        (0, 0),
        (0, 0),
    ):  # a transformer's patches would be hundreds of slices
        blocks = cut_blocks(lhs, strides).swapaxes(2, 3)
        patches = blocks.reshape(*blocks.shape[:3], -1)
    else:  # columns before rows: fewer and longer copies
        columns = cut_slices(lhs, (1, width), (1, strides[1]), ((0, 0), padding[1]), 0)
        rows = cut_slices(jnp.concatenate(columns, axis=-1), (height, 1), (strides[0], 1), (padding[0], (0, 0)), 0)
        patches = jnp.concatenate(rows, axis=-1)
    return dot_general(lax.optimization_barrier(patches), rhs.reshape(-1, outputs), (((3,), (0,)), ((), ())))


def _sum_of_products(lhs, rhs, *, strides, padding):
    slices = cut_slices(lhs, rhs.shape[:2], strides, padding, 0)
    weights = rhs.reshape(-1, 1, 1, 1, rhs.shape[-1])
    return sum(each * weight for each, weight in zip(slices, weights, strict=True))


@jax.custom_jvp
def _kept(inputs):
    """Return the inputs, materialized in memory.

    XLA recomputes cheap operations with one large operand, such as a batch norm with its ReLU, at each use, and does so
    slowly if the result is transposed for a kernel's gradient. This adds a second operand.
    """
    return lax.max(inputs, -lax.abs(inputs))


_kept.defjvps(lambda tangent, kept, inputs: tangent)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolution_on_cpu(lhs, rhs, strides, padding, pooled):
    """Compute a convolution; the kernel's gradient is computed in parts of the batch that fit into the cache.

    Two cores, [128, 32, 32, 64] to 64 by 3x3: 101 ms in 32 parts, 211 ms in one.
    """
    num_rows = 0 if pooled else _num_rows_more(lhs, rhs, strides, padding)
    rows = (padding[0][0], padding[0][1] + num_rows)
    return _convolution(lhs, rhs, strides=strides, padding=(rows, padding[1]))[:, : -num_rows or None]


def _num_rows_more(lhs, rhs, strides, padding) -> int:
    """Return the number of extra padding rows, whose results are dropped.

    With uneven padding XLA uses another plan, in which all cores compute, if it would leave few channels to one
    core. Two cores, 3x3: [128, 16, 16, 64] to 64, padding 1: 105 GFLOP/s, with one more row 164; [128, 15, 15, 64] to
    64 without padding 73, with one row 86, with three 138; [128, 14, 14, 128] to 128 without padding 143, with one row
    170.
    """
    if strides != (1, 1) or rhs.shape[2] < FEW_CHANNELS or lhs.shape[1] < FEW_ROWS:
        return 0
    num_rows, is_even = rhs.shape[0] - sum(padding[0]), padding == ((0, 0), (0, 0))
    if min(rhs.shape[2:]) > ONE_TASK:
        return int(is_even)
    return num_rows if 0 < num_rows <= MOST_MORE * (lhs.shape[1] - num_rows + 1) else 1


@partial(_convolution_on_cpu.defjvp, symbolic_zeros=True)
def _convolution_jvp(strides, padding, pooled, primals, tangents):
    (lhs, rhs), (lhs_tangent, rhs_tangent) = primals, tangents
    lhs = _kept(lhs)
    outputs = _convolution_on_cpu(lhs, rhs, strides, padding, False)  # pooling needs the positions too
    tangent = jnp.zeros_like(outputs)
    # Only their transposes, the gradients, are computed. Sums of parts in bfloat16 would lose precision.
    if not isinstance(rhs_tangent, SymbolicZero):
        count = _num_parts(lhs, rhs, outputs) if rhs.dtype.itemsize >= 4 else 1
        convolution = partial(_convolution, rhs=rhs_tangent, strides=strides, padding=padding)
        tangent += _in_parts(convolution, lhs, count)
    if not isinstance(lhs_tangent, SymbolicZero):
        tangent += _with_rows_of_zeros(lhs_tangent, rhs, strides, padding)
    return outputs, tangent


def _with_rows_of_zeros(lhs, rhs, strides, padding):
    """Convolve a map after padding a part of its end explicitly.

    The gradient with respect to the map is then a convolution with more rows and uneven padding: see `_num_rows_more`.
    Two cores, 3x3, [128, 32, 32, 64] to 64, padding 1: 92 GFLOP/s, with one more row 156.
    """
    keeps_size = all(low == high == (size - 1) / 2 for (low, high), size in zip(padding, rhs.shape, strict=False))
    num_rows = int(keeps_size and strides == (1, 1) and FEW_CHANNELS <= min(rhs.shape[2:]) <= ONE_TASK)
    lhs = jnp.pad(lhs, ((0, 0), (0, num_rows), (0, 0), (0, 0)))
    low, high = padding[0]
    return _convolution(lhs, rhs, strides=strides, padding=((low, high - num_rows), padding[1]))


def _in_parts(function, batch, count: int):
    """Apply a function to a batch part by part; each part has some of every device's examples."""
    num_devices = math.gcd(jax.device_count(), len(batch) // count)
    parts = batch.reshape(num_devices, count, -1, *batch.shape[1:])
    found = [function(parts[:, index].reshape(-1, *batch.shape[1:])) for index in range(count)]
    found = jnp.stack([each.reshape(num_devices, -1, *each.shape[1:]) for each in found], axis=1)
    return found.reshape(len(batch), *found.shape[3:])


def _bytes_by_kernel(rhs) -> int:
    """Return the size in bytes of a part's maps that fills the cache and outweighs reading and writing the kernel."""
    if rhs.shape[2] < FEW_CHANNELS:
        return 2 * CACHE_BYTES
    return max(min(3 * rhs.nbytes, CACHE_BYTES), CACHE_BYTES // 4, rhs.nbytes // 2)


def _num_parts(lhs, rhs, outputs) -> int:
    """Return the number of equal parts of a batch whose maps have about the size that suits the kernel.

    It is 1 on machines without CPU computation, where this form is only traced: tracing one part is faster.
    """
    if jax.default_backend() != "cpu":
        return 1
    most = min((lhs.nbytes + outputs.nbytes) // _bytes_by_kernel(rhs), MOST_PARTS)
    return next((count for count in range(most, 1, -1) if len(lhs) % count == 0), 1)


def _on_cpu(lhs, rhs, strides, padding, groups: int, *, pooled: bool):
    """Select and compute the form of a convolution on CPUs."""
    window, channels = rhs.shape[:2], lhs.shape[-1]
    options = {"strides": strides, "padding": padding}
    if 1 < groups == channels == rhs.shape[-1] and window[0] * window[1] <= MOST_SLICES:
        return partial(_sum_of_products, **options)
    if groups > 1:
        return partial(_convolution, groups=groups, **options)
    is_map_small = lhs.shape[1] < window[0] or lhs.shape[2] < window[1]
    is_matrix_small = window[0] * window[1] * channels <= FEW_COLUMNS
    if strides == window or window == (1, 1) or is_map_small or is_matrix_small:
        return partial(_matrix_product, **options)
    return partial(_convolution_on_cpu, **options, pooled=pooled)


def conv_general(
    lhs, rhs, window_strides, padding, *, lhs_dilation=None, rhs_dilation=None, dimension_numbers=None,
    feature_group_count=1, precision=None, pooled=False, **rest,
):  # fmt: skip
    """Replace `lax.conv_general_dilated` in `nn.Conv`, in the form that suits the platform. Images are NHWC.

    `pooled` declares that max-pooling follows, after elementwise operations: on CPUs, XLA fuses all of these if no
    gradient is needed.
    """
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    if lhs.ndim != 4 or dilated or precision is not None:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
            precision=precision, **rest,
        )  # fmt: skip
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    strides, padding = tuple(window_strides), tuple(map(tuple, padding))
    on_cpu = _on_cpu(lhs, rhs, strides, padding, feature_group_count, pooled=pooled)
    elsewhere = partial(_convolution, strides=strides, padding=padding, groups=feature_group_count)
    return lax.platform_dependent(lhs, rhs, cpu=on_cpu, default=elsewhere)


def dot_general(lhs, rhs, dimension_numbers, **options):
    """Replace `lax.dot_general` in `nn.Dense` by a matrix product with all leading axes flattened.

    For the kernel's gradient, XLA transposes several axes slowly on CPUs. Two cores, [128, 32, 32, 64] to 256 with both
    gradients: 97 ms, 248 ms with all axes.
    """
    assert dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
    found = lax.dot_general(lhs.reshape(-1, lhs.shape[-1]), rhs, (((1,), (0,)), ((), ())), **options)
    return found.reshape(*lhs.shape[:-1], rhs.shape[-1])
