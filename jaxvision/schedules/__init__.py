"""Learning-rate schedules: factories of functions step -> rate, over optax.

The run hands `learning_rate` (the peak) and `num_steps`. `warmup` and the like are shares of num_steps; warm-up rises
linearly from a share of the peak.
"""

from jaxvision.registry import schedules as _registry

register = _registry.register
