"""Linear probes: compute the features of a frozen backbone once, and train the head on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import run as runs
from jaxvision import training_setup
from jaxvision.distributed import compilation
from jaxvision.engine import inference, transfer
from jaxvision.interfaces import Model, Split, Tree
from jaxvision.training_setup import TrainingSetup


def check(setup: TrainingSetup) -> None:
    """Raise ValueError if cached features cannot replace the images. Runs before anything is written."""
    run, config, (params, state) = setup.run, setup.run.config, (setup.state.params, setup.state.model_state)
    if run.execution.tta != "none":
        raise ValueError(
            f"cache_features=True stores features without test-time augmentation: remove --tta={run.execution.tta}"
        )
    if setup.frozen != transfer.frozen(params, state, transfer.BACKBONE, head=run.model.head):
        raise ValueError(f"cache_features=True needs freeze='backbone', all but the head, not {config.freeze!r}")
    head_alone(run.model, params)
    _check_pooled(run, params, state)
    model = transfer.freeze(run.model, params, state, setup.frozen)
    check_repeatable(model, params, state, runs.example_inputs(run))
    _check_whole(setup.data.train)


def on_features(setup: TrainingSetup, params: Tree, model_state: Tree) -> TrainingSetup:
    """Compute the pooled features of training and validation images; return the setup that trains the head on them."""
    run = setup.run

    def feature_step(params, model_state, batch):
        assert run.model.features is not None
        return {"count": batch["mask"].sum()}, run.model.features(params, model_state, batch["inputs"])["pooled"]

    step = compilation.compile_eval(feature_step, run.mesh)

    def features(split: Split | None) -> Split | None:
        if split is None:
            return None
        options = {"batch_size": run.execution.eval_batch_size, "mesh": run.mesh, "doing": "features"}
        _, pooled = inference.infer_split(step, params, model_state, split, **options)
        return dataclasses.replace(split, read=lambda chosen: pooled[chosen], decode=None, is_random=False)

    train = features(setup.data.train)
    assert train is not None
    example = train.read(np.arange(1))
    dtype = jnp.bfloat16 if run.config.precision == "bf16" else None
    alone = head_alone(run.model, params, dtype=dtype)
    _check_alike(run, alone, params, model_state, setup.data.train, train)
    data = setup.data._replace(train=train, validation=features(setup.data.validation))
    probed = setup._replace(run=run._replace(model=alone), data=data, source=train)
    return training_setup.compile_setup(probed, jax.ShapeDtypeStruct(example.shape, example.dtype))


def head_alone(model: Model, params: Tree, *, dtype: Any = None) -> Model:
    """Return the model of only the last, linear layer, which takes pooled features [B, D].

    Parameters and state are those of the whole model; dtype is that of the computation if it differs from theirs.
    Raises ValueError if the head is not linear.
    """
    if model.head is None or set(params[model.head]) - {"kernel", "bias"} or params[model.head]["kernel"].ndim != 2:
        raise ValueError("features cannot be cached: the model has no head that is a single linear layer")

    def apply(params, state, inputs, *, train, key):
        head = {name: leaf.astype(dtype or leaf.dtype) for name, leaf in params[model.head].items()}
        outputs = inputs.astype(dtype or inputs.dtype) @ head["kernel"] + head.get("bias", 0)
        return outputs.astype(inputs.dtype), state

    alone = model._replace(apply=apply, features=None)
    return alone._replace(freeze=lambda modules: alone)  # it contains no frozen modules


def check_repeatable(model: Model, params: Tree, state: Tree, inputs: jax.ShapeDtypeStruct) -> None:
    """Raise ValueError if the model uses random numbers in training: then features differ from step to step."""
    try:
        jax.eval_shape(lambda *a: model.apply(*a, train=True, key=None), params, state, inputs)
    except Exception as error:  # the type depends on the library
        raise ValueError(
            f"features cannot be cached: the model uses random numbers in training ({type(error).__name__} without a "
            "key); remove its dropout"
        ) from None


def _check_whole(images: Split) -> None:
    """Raise ValueError if training uses random crops of images."""
    if images.is_random:
        raise ValueError(
            "cache_features=True stores the features of whole images, and these are cropped at random: remove "
            "random_crop from the spec of the dataset"
        )


def _check_pooled(run: runs.Run, params: Tree, state: Tree) -> None:
    """Raise ValueError if the model does not name the features that its head takes."""
    features, head = run.model.features, run.model.head
    maps = jax.eval_shape(features, params, state, runs.example_inputs(run)) if features else {}
    assert head is not None
    expected = (1, params[head]["kernel"].shape[0])
    shape = maps["pooled"].shape if "pooled" in maps else None
    if shape != expected:
        raise ValueError(
            f"features cannot be cached: the head of {run.config.model!r} takes shape {expected}, and its features "
            f"'pooled' {f'have {shape}' if shape else 'are missing'}"
        )


def _check_alike(run: runs.Run, alone: Model, params: Tree, state: Tree, images: Split, features: Split) -> None:
    """Raise ValueError if the head computes other outputs from cached features than the whole model from images."""
    few = np.arange(min(8, len(images)))

    def outputs(model: Model, split: Split) -> np.ndarray:
        def step(params, state, batch):
            return {"count": batch["mask"].sum()}, model.apply(params, state, batch["inputs"], train=False, key=None)[0]

        compile_setup = compilation.compile_eval(step, run.mesh)
        options = {"batch_size": len(few), "mesh": run.mesh}
        return inference.infer_split(compile_setup, params, state, split.select(few), **options)[1]

    whole, head = outputs(run.model, images), outputs(alone, features)
    tolerance = 0.05 if run.config.precision == "bf16" else 1e-3
    if not np.allclose(whole, head, rtol=tolerance, atol=tolerance * float(np.abs(whole).max())):
        raise ValueError(
            f"features cannot be cached: the model {run.config.model!r} computes more after 'pooled' than its head"
        )
