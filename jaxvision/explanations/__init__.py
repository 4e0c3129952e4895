"""Explanations, one method or family a file: maps of what an output depends on.

Each file registers factories that return an `Explanation` (`jaxvision/explanation.py`).
"""

from jaxvision.registry import explanations as _registry

register = _registry.register
