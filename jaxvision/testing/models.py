"""Does a model keep its contract?"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import registry, specs
from jaxvision.distributed import compilation
from jaxvision.interfaces import Model
from jaxvision.testing.trees import equal, finite


def check_model(spec: str, *, input_size: tuple[int, int, int] = (32, 32, 3), output_size: int = 10) -> None:
    """Check shapes, determinism, that only training changes the state, gradients, the head and the features."""
    output_size = registry.models.entry(specs.parse(spec).name).metadata.get("output_size", output_size)
    model: Model = registry.models.build(spec, output_size=output_size, input_size=input_size)
    inputs = jax.random.normal(jax.random.key(1), (2, *input_size))
    init = compilation.compile_init(model.init)
    params, state = init(jax.random.key(0), inputs)
    evaluate = jax.jit(lambda p, s, x: model.apply(p, s, x, train=False, key=None))
    outputs, same = evaluate(params, state, inputs)
    assert outputs.shape == (2, output_size), f"outputs have shape {outputs.shape}, expected {(2, output_size)}"
    assert equal(state, same), "evaluation changed the state"
    assert equal(params, init(jax.random.key(0), inputs)[0]), "init is not a function of its key"
    single = evaluate(params, state, inputs[:1])[0]
    assert jnp.allclose(single, outputs[:1], rtol=1e-3, atol=1e-4), (
        "in evaluation an output depends on the other inputs"
    )

    def loss(params):
        outputs, new = model.apply(params, state, inputs, train=True, key=jax.random.key(2))
        found = (outputs**2).mean()
        for part in (model.parts or {}).values():
            made, new = part.apply(params, new, jax.random.split(jax.random.key(3)), train=True, key=jax.random.key(4))
            assert made.shape == inputs.shape, f"a part makes {made.shape} of two keys, expected {inputs.shape}"
            found += (made**2).mean()
        return found, new

    gradients, new_state = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert jax.tree.structure(new_state) == jax.tree.structure(state), "training changed the structure of the state"
    assert finite(gradients), "gradients are not finite"
    kernels = [gradient for gradient in jax.tree.leaves(gradients) if gradient.ndim > 1]
    assert all(bool((kernel != 0).any()) for kernel in kernels), "a kernel has no gradient"
    if model.synchronize is not None and jax.tree.leaves(state):
        with jax.enable_x64(True):  # in float32, what varies between two examples at one pixel is mostly rounding
            _check_parts(model, *jax.tree.map(_double, (params, state, inputs)))
    if model.head is not None:
        assert model.head in params, f"head is {model.head!r}, and params have {', '.join(params)}"
    if model.features is not None:
        _check_features(model, params, state, inputs)
    if model.adapt is not None:
        adapted = jax.jit(model.adapt)(params, state, inputs)
        kinds = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (adapted, (params, state))]
        assert kinds[0] == kinds[1], "adapting changed shapes or types"
        assert finite(adapted), "what is adapted is not finite"


def _double(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _check_parts(model: Model, params: Any, state: Any, inputs: jax.Array) -> None:
    """Check that devices which see a part of the batch each compute the statistics of all of it."""
    assert model.synchronize is not None

    keys = jax.random.split(jax.random.key(3), len(inputs))  # of what the parts make

    def train(model: Model, inputs: jax.Array, keys: jax.Array, key: jax.Array | None) -> Any:
        new = model.apply(params, state, inputs, train=True, key=key)[1]
        for part in (model.parts or {}).values():
            new = part.apply(params, new, keys, train=True, key=key)[1]
        return new

    try:
        jax.eval_shape(lambda inputs: train(model, inputs, keys, None), inputs)
        key = None
    except Exception:  # the model needs a key; its draws for a batch differ from those for parts of it
        key = jax.random.key(2)
    of_part, whole = partial(train, model.synchronize("parts")), partial(train, model)
    found = jax.jit(jax.vmap(lambda x, own: of_part(x[None], own[None], key), axis_name="parts"))(inputs, keys)
    wanted = jax.tree.map(lambda leaf: leaf[0], found) if key is not None else jax.jit(whole)(inputs, keys, key)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert np.allclose(one, other[None], rtol=1e-3, atol=1e-4), (
            "statistics are those of a part of the batch: `synchronize` has no effect"
        )


def _check_features(model: Model, params: Any, state: Any, inputs: jax.Array) -> None:
    assert model.features is not None
    maps = model.features(params, state, inputs)
    assert "outputs" in maps, f"features are {', '.join(maps)}; 'outputs' is missing"
    outputs = model.apply(params, state, inputs, train=False, key=None)[0]
    assert jnp.array_equal(maps.pop("outputs"), outputs), "the features' outputs are not those of evaluation"
    if not maps:  # a module that names none
        return
    assert "pooled" in maps, f"features are {', '.join(maps)}; 'pooled' is missing"
    assert maps["pooled"].shape[0] == len(inputs) and maps["pooled"].ndim == 2, "pooled features are not [B, F]"
    first, last = next(iter(maps)), list(maps)[-1]
    moved = model.features(params, state, inputs, add={first: jnp.ones_like(maps[first])})
    assert jnp.allclose(moved[first], maps[first] + 1, atol=1e-5), f"add does not act on {first!r}"

    def output(added: jax.Array) -> jax.Array:
        assert model.features is not None
        return model.features(params, state, inputs, add={last: added})["outputs"][:, 0].sum()

    gradient = jax.jit(jax.grad(output))(jnp.zeros_like(maps[last]))
    assert finite(gradient) and bool((gradient != 0).any()), f"an output has no gradient by the map {last!r}"
