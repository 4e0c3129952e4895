"""Augmentations: registered factories of pure functions (key, batch) -> batch, compiled into the training step.

Inputs are float32 [B, H, W, C] in 0..1 with 1 or 3 channels, and outputs have the same shape and range. Random values
are drawn independently for each example.
"""

from jaxvision.registry import augmentations as _registry

register = _registry.register
