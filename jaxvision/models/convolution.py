"""Convolution and matrix product, each in the form that suits the platform and the shapes.

On CPUs XLA's own convolutions come near the machine's matrix products (jaxlib 0.10 and 0.12), but for some, which are
slices, side by side, times one matrix: those of few input channels (two cores, [128, 32, 32, 3] to 32 by 3x3: 2 ms,
XLA's 8), those whose windows do not overlap, as 1x1, and those of maps smaller than the window ([128, 2, 2, 512] by
3x3: 7 ms, XLA's 833). A depthwise one is slices, each times its weights, added ([16, 56, 56, 144] by 3x3: 4 ms, XLA's
156; with gradients 118 and 562). GPUs and TPUs keep XLA's own. The results agree to float rounding.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

NHWC = ("NHWC", "HWIO", "NHWC")
FEW_CHANNELS = 16  # below which more rows bring nothing, and a kernel is too small to count for a part
FEW_COLUMNS = 32  # of the matrix of slices: with 27 they win, with 147, a ResNet's 7x7, XLA (125 and 44 ms)
CACHE_BYTES = 2**21  # of what a part of a batch takes: a core's own cache is of this order
MOST_PARTS = 32  # each compiles its own convolution
FEW_ROWS = 10  # of a map, to which more rows would be much
ONE_TASK = 64  # channels that XLA's plan for even padding leaves to one core
MOST_MORE = 0.25  # of a map's rows; 7 to 22 make it slower
MOST_SLICES = 25  # of a depthwise convolution: ConvNeXt's 49 halve its step and take seven times as long to compile


def _convolution(lhs, rhs, *, strides, padding, groups=1):
    return lax.conv_general_dilated(lhs, rhs, strides, padding, dimension_numbers=NHWC, feature_group_count=groups)


def cut_slices(inputs, window, strides, padding, fill):
    """Cut the inputs as seen from each place of the window, [kh * kw] arrays [N, H', W', C]."""
    inputs = lax.pad(inputs, jnp.asarray(fill, inputs.dtype), [(0, 0, 0), *((*p, 0) for p in padding), (0, 0, 0)])
    n, height, width, channels = inputs.shape
    rows, columns = ((size - w) // s * s + 1 for size, w, s in zip((height, width), window, strides, strict=True))
    return [
        lax.slice(inputs, (0, i, j, 0), (n, i + rows, j + columns, channels), (1, *strides, 1))
        for i in range(window[0])
        for j in range(window[1])
    ]


def cut_blocks(inputs, window):
    """Cut [N, H, W, C] into blocks side by side, [N, H', h, W', w, C]; what is left over at the end is cut off."""
    n, height, width, channels = inputs.shape
    rows, columns = height // window[0], width // window[1]
    inputs = inputs[:, : rows * window[0], : columns * window[1]]
    return inputs.reshape(n, rows, window[0], columns, window[1], channels)


def _matrix_product(lhs, rhs, *, strides, padding):
    """The barrier keeps what is multiplied as it is, so that nothing puts it together a second time."""
    height, width, _, outputs = rhs.shape
    if strides == (height, width) and padding == ((0, 0), (0, 0)):  # hundreds of slices for a transformer's patches
        blocks = cut_blocks(lhs, strides).swapaxes(2, 3)
        patches = blocks.reshape(*blocks.shape[:3], -1)
    else:  # columns before rows: fewer and longer pieces to copy
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
    """The inputs as they are, written to memory once.

    XLA computes what is cheap and has one large operand, as a batch norm with its ReLU, anew wherever it is read, and
    slowly where it is transposed for a kernel's gradient. This has two.
    """
    return lax.max(inputs, -lax.abs(inputs))


_kept.defjvps(lambda tangent, kept, inputs: tangent)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _convolution_on_cpu(lhs, rhs, strides, padding, pooled):
    """The fastest form of a convolution, whose kernel's gradient is computed in parts of the batch that fit the cache.

    Two cores, [128, 32, 32, 64] to 64 by 3x3: 101 ms in 32 parts and 211 in one.
    """
    num_rows = 0 if pooled else _num_rows_more(lhs, rhs, strides, padding)
    rows = (padding[0][0], padding[0][1] + num_rows)
    return _convolution(lhs, rhs, strides=strides, padding=(rows, padding[1]))[:, : -num_rows or None]


def _num_rows_more(lhs, rhs, strides, padding) -> int:
    """Says by how many rows a map is padded beyond what is asked for, whose results are cut off again.

    XLA chooses another plan for what is padded unevenly: all cores compute it, where few channels would be left to one.
    Two cores, 3x3: [128, 16, 16, 64] to 64, padded by 1: 105 GFLOP/s, by one more row 164; [128, 15, 15, 64] to 64
    without padding 73, by one row 86, by three 138; [128, 14, 14, 128] to 128 without padding 143, by one row 170.
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
    outputs = _convolution_on_cpu(lhs, rhs, strides, padding, False)  # pooling will ask for places, too
    tangent = jnp.zeros_like(outputs)
    # Both are transposed, to be the gradients; nobody computes them themselves. Parts in bfloat16 would not add up.
    if not isinstance(rhs_tangent, SymbolicZero):
        count = _num_parts(lhs, rhs, outputs) if rhs.dtype.itemsize >= 4 else 1
        convolution = partial(_convolution, rhs=rhs_tangent, strides=strides, padding=padding)
        tangent += _in_parts(convolution, lhs, count)
    if not isinstance(lhs_tangent, SymbolicZero):
        tangent += _with_rows_of_zeros(lhs_tangent, rhs, strides, padding)
    return outputs, tangent


def _with_rows_of_zeros(lhs, rhs, strides, padding):
    """Convolves a map, whose padding at the end is in part its own.

    The gradient by the map is then a convolution that gives more rows than the map has, padded unevenly: see
    `_num_rows_more`. Two cores, 3x3, [128, 32, 32, 64] to 64, padded by 1: 92 GFLOP/s, by one more row 156.
    """
    keeps_size = all(low == high == (size - 1) / 2 for (low, high), size in zip(padding, rhs.shape, strict=False))
    num_rows = int(keeps_size and strides == (1, 1) and FEW_CHANNELS <= min(rhs.shape[2:]) <= ONE_TASK)
    lhs = jnp.pad(lhs, ((0, 0), (0, num_rows), (0, 0), (0, 0)))
    low, high = padding[0]
    return _convolution(lhs, rhs, strides=strides, padding=((low, high - num_rows), padding[1]))


def _in_parts(function, batch, count: int):
    """Computes what a function gives of a batch part by part; in each are some of every device's examples."""
    num_devices = math.gcd(jax.device_count(), len(batch) // count)
    parts = batch.reshape(num_devices, count, -1, *batch.shape[1:])
    found = [function(parts[:, index].reshape(-1, *batch.shape[1:])) for index in range(count)]
    found = jnp.stack([each.reshape(num_devices, -1, *each.shape[1:]) for each in found], axis=1)
    return found.reshape(len(batch), *found.shape[3:])


def _bytes_by_kernel(rhs) -> int:
    """Gives the bytes of a part's maps that fill the cache, and outweigh the kernel that each part reads and writes."""
    if rhs.shape[2] < FEW_CHANNELS:
        return 2 * CACHE_BYTES
    return max(min(3 * rhs.nbytes, CACHE_BYTES), CACHE_BYTES // 4, rhs.nbytes // 2)


def _num_parts(lhs, rhs, outputs) -> int:
    """Divides a batch into equal parts whose maps take about the bytes that suit the kernel.

    Where no CPU computes, this form is but traced, and in one part, which is done sooner.
    """
    if jax.default_backend() != "cpu":
        return 1
    most = min((lhs.nbytes + outputs.nbytes) // _bytes_by_kernel(rhs), MOST_PARTS)
    return next((count for count in range(most, 1, -1) if len(lhs) % count == 0), 1)


def _on_cpu(lhs, rhs, strides, padding, groups: int, *, pooled: bool):
    """Chooses the form of a convolution on CPUs."""
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
    """Stands for `lax.conv_general_dilated` in `nn.Conv`, in the form that suits the platform. Images are NHWC.

    `pooled` says that max-pooling follows, after what is done to each element: on CPUs, XLA computes all that in one go
    where no gradient is wanted.
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
    """Stands for `lax.dot_general` in `nn.Dense`: a product of matrices, whatever axes come before the last.

    For the kernel's gradient XLA transposes several axes slowly on CPUs. Two cores, [128, 32, 32, 64] to 256 with both
    gradients: 97 ms, 248 with all axes.
    """
    assert dimension_numbers == (((lhs.ndim - 1,), (0,)), ((), ()))
    found = lax.dot_general(lhs.reshape(-1, lhs.shape[-1]), rhs, (((1,), (0,)), ((), ())), **options)
    return found.reshape(*lhs.shape[:-1], rhs.shape[-1])
