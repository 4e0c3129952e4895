"""Datasets, one source per file; each file registers factories that return a `Dataset`."""

from jaxvision.registry import datasets as _registry

register = _registry.register
