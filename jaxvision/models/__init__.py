"""Model families, one a file; each registers factories that return a `Model`."""

from jaxvision.registry import models as _registry

register = _registry.register
