"""What is learned, one kind a file; each registers factories that return a `Task`."""

from jaxvision.registry import tasks as _registry

register = _registry.register
