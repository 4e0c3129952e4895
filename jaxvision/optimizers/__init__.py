"""Optimizers: registered factories over optax.

Each takes `learning_rate`, a number or a schedule; the run hands it the schedule, whose peak is Config.learning_rate or
else the default that stands in its signature. Weight decay leaves out what has fewer than two axes (biases, norms)
unless decay_all is set.
"""

from jaxvision.registry import optimizers as _registry

register = _registry.register
