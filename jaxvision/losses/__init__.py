"""Losses that classification tasks train on, by name: `multiclass(loss='focal(gamma=2.0)')`.

A factory returns a pure function of outputs and targets, both of one shape, that gives the loss of each example [B].
A task hands it logits [B, C] and shares of the classes [B, C] ("softmax": they sum to 1), or logits [B, T] and shares
of the positive in 0..1 [B, T] ("sigmoid": each column for itself); which, the factory learns as `activation`.
One that is for one of them alone says so where it is registered: `@register("poly", activation="softmax")`.
Evaluation never uses them: its loss is the plain cross-entropy.
"""

from jaxvision.registry import losses as _registry

register = _registry.register
