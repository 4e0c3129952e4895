"""An optimizer of its own for each part of a model."""

from __future__ import annotations

from typing import Annotated, Any

import optax

from jaxvision import registry
from jaxvision.optimizers import register
from jaxvision.optimizers.options import LearningRate
from jaxvision.registry import SpecOf


@register("by_part", parts=("generator", "discriminator"))
def by_part(
    *,
    learning_rate: LearningRate = 2e-4,
    generator: Annotated[str, SpecOf("optimizer")] = "adam(b1=0.5)",
    discriminator: Annotated[str, SpecOf("optimizer")] = "adam(b1=0.5)",
    ratio: float = 1.0,
) -> optax.GradientTransformation:
    """An optimizer for each of a model's parts; the discriminator's rate is `ratio` times the generator's.

    (M. Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NIPS 2017, section 2.)
    """
    if ratio <= 0:
        raise ValueError(f"by_part: ratio={ratio}; wanted a factor above 0, as 0.5")

    def scaled_rate(step):
        return ratio * (learning_rate(step) if callable(learning_rate) else learning_rate)

    rates = {"generator": (generator, learning_rate), "discriminator": (discriminator, scaled_rate)}
    build = registry.optimizers.build
    parts: dict[Any, Any] = {name: build(spec, learning_rate=rate) for name, (spec, rate) in rates.items()}

    def label(params):
        if not isinstance(params, dict) or set(params) != set(parts):
            raise ValueError(
                f"the optimizer 'by_part' is for models of the parts {' and '.join(parts)}, as --model=gan; this one "
                f"has {', '.join(params)}"
            )
        return {name: name for name in params}

    return optax.partition(parts, label)
