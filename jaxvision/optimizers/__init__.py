"""Optimizers: registered factories over optax.

A factory takes `learning_rate`, a number or a schedule. The run passes the schedule; its peak is Config.learning_rate,
or else the default in the factory's signature. Weight decay skips parameters with fewer than two axes (biases, norms)
unless decay_all is set.
"""

from jaxvision.registry import optimizers as _registry

register = _registry.register
