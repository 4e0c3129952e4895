"""Tasks, one kind per file; each file registers factories that return a `Task`."""

from jaxvision.registry import tasks as _registry

register = _registry.register
