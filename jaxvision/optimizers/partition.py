"""A separate optimizer for each part of a model."""

from __future__ import annotations

from typing import Annotated, Any

import optax

from jaxvision import registry
from jaxvision.optimizers import register
from jaxvision.optimizers.options import LearningRate
from jaxvision.registry import SpecOf


@register("partition", parts=("generator", "discriminator"))
def partition(
    *,
    learning_rate: LearningRate = 2e-4,
    generator: Annotated[str, SpecOf("optimizer")] = "adam(b1=0.5)",
    discriminator: Annotated[str, SpecOf("optimizer")] = "adam(b1=0.5)",
    ratio: float = 1.0,
) -> optax.GradientTransformation:
    """Build one optimizer per part of a GAN; `ratio` is discriminator rate / generator rate.

    (M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017, section 2.)

    Args:
        learning_rate: a number or a schedule, of the generator.
        generator: optimizer of the generator.
        discriminator: optimizer of the discriminator.
        ratio: learning rate of the discriminator divided by that of the generator.

    Raises:
        ValueError: if ratio is not above 0, or the model does not have these two parts.
    """
    if ratio <= 0:
        raise ValueError(f"partition: ratio={ratio}; expected a factor above 0, e.g. 0.5")

    def scaled_rate(step):
        return ratio * (learning_rate(step) if callable(learning_rate) else learning_rate)

    rates = {"generator": (generator, learning_rate), "discriminator": (discriminator, scaled_rate)}
    build = registry.optimizers.build
    parts: dict[Any, Any] = {name: build(spec, learning_rate=rate) for name, (spec, rate) in rates.items()}

    def label(params):
        if not isinstance(params, dict) or set(params) != set(parts):
            raise ValueError(
                f"the optimizer 'partition' needs a model with the parts {' and '.join(parts)}, e.g. --model=gan; this "
                f"one has {', '.join(params)}"
            )
        return {name: name for name in params}

    return optax.partition(parts, label)
