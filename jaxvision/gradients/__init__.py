"""Gradient rules, one a file: how the gradients of a step follow from the losses of its examples.

Each file registers factories that return a `Gradient`. To factories whose signature names them, the run gives
`batch_size` (examples that one step learns from), `num_examples` (of the training split), `num_steps`, and `axis_name`
(see `Gradient`).
"""

from jaxvision.registry import gradients as _registry

register = _registry.register
