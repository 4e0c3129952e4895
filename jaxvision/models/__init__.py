"""Models, one family per file; each file registers factories that return a `Model`."""

from jaxvision.registry import models as _registry

register = _registry.register
