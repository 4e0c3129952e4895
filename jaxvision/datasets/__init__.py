"""Sources of examples, one a file; each registers a factory that returns a `Dataset`."""

from jaxvision.registry import datasets as _registry

register = _registry.register
