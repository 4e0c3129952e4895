"""Learning-rate schedules: registered factories of functions step -> rate, over optax.

The run passes `learning_rate`, the peak, and `num_steps`. `warmup` and similar options are fractions of num_steps; the
warm-up is linear from near 0 to the peak.
"""

from jaxvision.registry import schedules as _registry

register = _registry.register
