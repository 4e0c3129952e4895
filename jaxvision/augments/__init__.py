"""Augmentation: registered factories of pure functions (key, batch) -> batch, on the device, in the compiled step.

Inputs are float32 [B, H, W, C] in 0..1, of 1 or 3 channels, and stay so. Each example draws for itself.
"""

from jaxvision.registry import augments as _registry

register = _registry.register
