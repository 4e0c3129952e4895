"""Classification losses, selected by name: `multiclass(loss='focal(gamma=2.0)')`.

A factory returns a pure function (outputs, targets) -> the loss of each example, [B]; outputs and targets have the same
shape. With `activation="softmax"`, outputs are logits [B, C] and targets class probabilities [B, C] that sum to 1. With
`activation="sigmoid"`, outputs are logits [B, T] and targets independent probabilities [B, T]. A loss for only one
activation registers it: `@register("poly", activation="softmax")`. Evaluation always reports plain cross-entropy.
"""

from jaxvision.registry import losses as _registry

register = _registry.register
