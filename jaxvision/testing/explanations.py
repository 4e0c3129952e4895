"""Does an explanation keep its contract?"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxvision import registry
from jaxvision.testing.trees import finite


def check_explanation(
    spec: str,
    *,
    model: str = "cnn(channels=(4, 8), dense=())",
    input_size: tuple[int, int, int] = (16, 16, 3),
    depends_on_target: bool = True,
) -> None:
    """Check the maps of an explanation: shape, finite values, the target, the key, and the other rows of the batch.

    Args:
        spec: The explanation, as `"grad_cam(layer='stage3')"`.
        model: The spec of a model that it fits.
        input_size: (height, width, channels) of its inputs.
        depends_on_target: False for a method whose map is the same for all classes.

    Raises:
        AssertionError: If the explanation breaks its contract.
    """
    explanation = registry.explanations.build(spec)
    built = registry.models.build(model, output_size=3, input_size=input_size)
    inputs, target = jax.random.uniform(jax.random.key(1), (3, *input_size)), jnp.eye(3)
    params, state = jax.jit(built.init)(jax.random.key(0), inputs)
    if explanation.source is not None:
        place = explanation.source(built, params, state, jax.ShapeDtypeStruct(inputs.shape, inputs.dtype))
        assert isinstance(place, str) and place, f"source returned {place!r}, expected a text"

    @jax.jit
    def explain(inputs, target, key):
        return explanation.explain(built, params, state, inputs, target, key=key)

    key = jax.random.key(2)
    maps = explain(inputs, target, key)
    assert maps.ndim == 3 and len(maps) == 3, f"maps have shape {maps.shape}, expected (3, h, w)"
    assert finite(maps), "maps are not finite"
    assert jnp.array_equal(maps, explain(inputs, target, key)), "maps are not a function of their key"
    others = explain(inputs.at[1:].set(0.5), target, key)
    assert jnp.allclose(others[0], maps[0], rtol=1e-3, atol=1e-5), "a map depends on the other inputs of the batch"
    if depends_on_target:
        turned = explain(inputs, target[jnp.array([1, 2, 0])], key)
        assert not jnp.allclose(turned, maps), "maps do not depend on the target"
