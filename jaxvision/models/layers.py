"""Building blocks that model families share."""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxvision.models.convolution import conv_general, dot_general
from jaxvision.models.linen import mean_over_devices


def adaptive_average_pool(inputs: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Average-pool [N, H, W, C] to [N, *size, C]; windows overlap or repeat if H and W are not multiples.

    Window i of n ranges from floor(i H / n) to ceil((i + 1) H / n), as in PyTorch.
    """
    for axis, num_windows in enumerate(size, 1):
        length = inputs.shape[axis]
        if length == num_windows:
            continue
        ends = [(i * length // num_windows, -(-(i + 1) * length // num_windows)) for i in range(num_windows)]
        means = [lax.slice_in_dim(inputs, start, end, axis=axis).mean(axis) for start, end in ends]
        inputs = jnp.stack(means, axis)
    return inputs


MOST_LAYERS = 1_000
Conv = partial(nn.Conv, conv_general_dilated=conv_general)
PooledConv = partial(
    nn.Conv, conv_general_dilated=partial(conv_general, pooled=True)
)  # for a convolution before max-pooling

Dense = partial(nn.Dense, dot_general=dot_general)  # for maps and sequences; equals nn.Dense for [N, C]

# K. He et al., Delving Deep into Rectifiers, ICCV 2015, equation 14: preserves the variance of the gradients.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
NormFreeConv = partial(Conv, use_bias=False, kernel_init=he_normal)


class BatchNorm(nn.BatchNorm):
    """Flax's batch norm over the last axis with PyTorch's definition: its momentum, epsilon and running variance.

    The variance is the mean square of x - mean, as in PyTorch. Flax's default, the mean square minus the squared mean,
    loses all digits in float32 if the mean is thousands of deviations. The running variance is unbiased: that of n
    values is multiplied by n / (n - 1).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, use_running_average: bool | None = None, *, mask: None = None):
        is_stored = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype) if self.use_scale else 1
        bias = self.param("bias", self.bias_init, shape, self.param_dtype) if self.use_bias else 0
        if is_stored:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var, unbiased_var = self._statistics(x)
            if not self.is_initializing():
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * unbiased_var
        outputs = (x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias
        return outputs.astype(self.dtype or jnp.result_type(x, scale, bias))

    def _statistics(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return mean, variance and unbiased variance of each channel over the whole batch, in float32 or float64."""
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        axes = tuple(range(x.ndim - 1))
        mean, num_parts = mean_over_devices(self, x.mean(axes))
        # The derivative of the variance by the mean is 0; without it, the backward pass reads the map once less.
        var, _ = mean_over_devices(self, jnp.square(x - lax.stop_gradient(mean)).mean(axes))
        count = num_parts * (x.size // x.shape[-1])
        return mean, var, var * (count / max(count - 1, 1))


def drop_path(branch: jax.Array, rate: float, *, train: bool) -> jax.Array:
    """Drop a block's branch in training, independently per example (G. Huang et al., stochastic depth, ECCV 2016).

    Kept branches are divided by the keep probability. Call it in a compact module, before the branch is added.
    """
    return nn.Dropout(rate, broadcast_dims=tuple(range(1, branch.ndim)), deterministic=not train)(branch)


def conv3x3(channels: int, stride: int, name: str, *, groups: int = 1) -> nn.Module:
    strides, padding = (stride, stride), ((1, 1), (1, 1))
    return NormFreeConv(channels, (3, 3), strides, padding=padding, feature_group_count=groups, name=name)


def require_probability(**options: float) -> None:
    """Raise ValueError if a rate is not at least 0 and below 1."""
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}; expected a probability of at least 0 and below 1")


def require_few_layers(**sizes: tuple[int, ...]) -> None:
    """Raise ValueError if a tuple has a size for more layers than can be compiled within hours."""
    for name, values in sizes.items():
        if len(values) > MOST_LAYERS:
            raise ValueError(f"{name} has {len(values):,} layers; expected {MOST_LAYERS:,} or less")


def require_least_size(
    inputs: jax.Array, *, name: str, least: int, repair: str = "enlarge them (image_size=…)"
) -> None:
    """Raise ValueError if images [N, H, W, C] have a side of fewer than `least` pixels."""
    height, width = inputs.shape[1:3]
    if min(height, width) < least:
        raise ValueError(
            f"images of {height}x{width} pixels are too small for {name}, which takes {least}x{least} and larger; "
            f"{repair}"
        )


def require_size(inputs: jax.Array, *, name: str, num_convs: int, num_pools: int, padding: str = "VALID") -> None:
    """Raise ValueError if images [N, H, W, C] are too small for 3x3 convolutions, some followed by 2x2 pooling."""
    least = 1
    for index in reversed(range(num_convs)):
        least = least * (2 if index < num_pools else 1) + (2 if padding == "VALID" else 0)
    repair = "enlarge them (image_size=…) or use fewer layers"
    require_least_size(inputs, name=name, least=least, repair=repair)
