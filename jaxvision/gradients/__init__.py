"""Gradient rules, one per file: how the gradient of a step is computed from the losses of its examples.

Each file registers factories that return a `Gradient`. The run passes these arguments to factories that take them:
`batch_size` (examples per optimizer step), `num_examples` (of the training split), `num_steps`, and `axis_name` (see
`Gradient`).
"""

from jaxvision.registry import gradients as _registry

register = _registry.register
