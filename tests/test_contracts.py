"""Contracts of all registered names: registering a model is enough to test it."""

import pytest

from jaxvision import registry, testing

FACTS = {name: registry.models.entry(name).metadata for name in registry.models.names()}
LARGE = 1_000_000  # parameters; minutes to compile


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if metadata.get("num_parameters", 0) > LARGE else name
        for name, metadata in FACTS.items()
    ],
)
def test_model(name):
    least = FACTS[name].get("least_size", 32)
    testing.check_model(name, input_size=(least, least, 3))


@pytest.mark.parametrize(
    "spec",
    [
        "cnn(batch_norm=True, dropout=0.3, padding='SAME')",
        "cnn(channels=(32,), dense=(16, 8))",
        "mlp(hidden=(), dropout=0.5)",
        pytest.param("resnet18(stem='cifar')", marks=pytest.mark.slow),
    ],
)
def test_model_option(spec):
    testing.check_model(spec, input_size=(16, 20, 1), output_size=3)


@pytest.mark.parametrize("spec", ["digits", "synthetic", "digits(image_size=20, test_fraction=0.5)"])
def test_dataset(spec):
    testing.check_dataset(spec)


@pytest.mark.parametrize("name", registry.tasks.names())
def test_task(name):
    testing.check_task(name)


@pytest.mark.parametrize("name", registry.losses.names())
def test_loss(name):
    testing.check_loss(name)


@pytest.mark.parametrize("name", registry.optimizers.names())
def test_optimizer(name):
    testing.check_optimizer(name)


@pytest.mark.parametrize("name", registry.schedules.names())
def test_schedule(name):
    testing.check_schedule(name)


@pytest.mark.parametrize("name", registry.augmentations.names())
def test_augment(name):
    testing.check_augmentation(name)


@pytest.mark.parametrize("name", [name for name in registry.explanations.names() if name != "attention_rollout"])
def test_explanation(name):
    testing.check_explanation(name)


@pytest.mark.slow
def test_attention_rollout():
    size = {"model": "vit_tiny_patch16", "input_size": (32, 32, 3)}
    testing.check_explanation("attention_rollout", **size, depends_on_target=False)


@pytest.mark.parametrize("kind", registry.REGISTRIES)
def test_every_factory_is_explained_and_keyword_only(kind):
    import inspect

    each = registry.REGISTRIES[kind]
    for name in each.names():
        factory = each.entry(name).factory
        if not factory.__module__.startswith("jaxvision."):  # a plug-in that another test registered
            continue
        assert each.entry(name).summary.endswith("."), f"{kind} {name}: the docstring's first line is no sentence"
        kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
        assert kinds <= {inspect.Parameter.KEYWORD_ONLY}, f"{kind} {name}: arguments are not keyword-only"
