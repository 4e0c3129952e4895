"""The contract of explanations: which parts of an image an output of a model depends on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from jaxvision.interfaces import Array, Model, Tree


class Explain(Protocol):
    def __call__(
        self, model: Model, params: Tree, state: Tree, inputs: Array, target: Array, /, *, key: Array
    ) -> Array: ...


class Source(Protocol):
    def __call__(self, model: Model, params: Tree, state: Tree, inputs: Array, /) -> str: ...


class Explanation(NamedTuple):
    """A way to explain outputs. `explain(model, params, state, inputs, target, key=…)` returns maps [B, h, w].

    Inputs are floats [B, H, W, C] as the model takes them: pixels in 0..1 for the model of a run. The explained score
    of an example is the sum of its outputs times `target` [B, outputs]: a one for the logit of a class, -1 for the
    first of two classes with one logit. A map has any size; it is resized to the image. Where it may be negative,
    negative parts speak against the score. `explain` is compiled, and a map depends on its own input only.

    `source` returns where the maps come from, as "stage4 (7x7)", or raises ValueError if the model does not fit; its
    arguments may be shapes. None for a method that fits all models.
    """

    explain: Explain
    source: Source | None = None
