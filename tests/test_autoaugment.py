"""AutoAugment and AugMix: policies against torchvision's, mixtures and the consistency loss against the paper."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry
from jaxvision.augmentations import augmix, autoaugment
from jaxvision.augmentations.policies import OPERATIONS, magnitudes_of, ranges_of_rand_augment
from jaxvision.interfaces import Model
from jaxvision.tasks import consistency

SIZE = (24, 36)


def batch(num: int = 4096) -> dict:
    return {"inputs": jnp.zeros((num, *SIZE, 1)), "targets": jnp.zeros(num, jnp.int32)}


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="torchvision not installed")
@pytest.mark.parametrize("name", ["imagenet", "cifar10"])
def test_policies_are_torchvisions(name):
    import parity

    parity.import_torchvision()
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy

    theirs = AutoAugment(AutoAugmentPolicy(name))
    space, ours = theirs._augmentation_space(10, SIZE), autoaugment.read_policy(name)
    assert len(theirs.policies) == len(ours) == 25
    for row, policy in zip(ours, theirs.policies, strict=True):
        for (operation, probability, level), (spelt, wanted_probability, magnitude) in zip(row, policy, strict=True):
            assert probability == np.float32(wanted_probability)
            which = jnp.array([int(operation)])
            found = magnitudes_of(which, jnp.array([level]), jnp.ones(1), ranges_of_rand_augment(SIZE))
            if spelt == "Invert":
                assert (OPERATIONS[int(operation)], float(found[0])) == ("solarize", 0.0)  # all levels are inverted
                continue
            assert OPERATIONS[int(operation)].replace("_", "") == spelt.lower()
            if magnitude is not None:
                wanted = float(space[spelt][0][magnitude])
                found = np.round(found) if spelt == "Posterize" else found
                np.testing.assert_allclose(found, [wanted], atol=1e-4)


@pytest.fixture
def drawn(monkeypatch):
    """What a module draws: pairs of operations and magnitudes, as its pixels do not change."""
    found = []

    def note(images, which, magnitudes, **options):
        found.append((np.asarray(which), np.asarray(magnitudes)))
        return images

    for module in (autoaugment, augmix):
        monkeypatch.setattr(module, "moved", note)
        monkeypatch.setattr(module, "retouched", lambda images, which, magnitudes: images)
    return found


def test_sub_policies_are_drawn_with_their_probabilities(drawn):
    registry.augmentations.build("autoaugment(policy='cifar10')")(jax.random.key(0), batch())
    table = autoaugment.read_policy("cifar10")
    assert len(drawn) == 2
    for position, (which, magnitudes) in enumerate(drawn):
        for index, name in enumerate(OPERATIONS):
            wanted = table[table[:, position, 0] == index, position, 1].sum() / 25
            if name == "identity":
                wanted = (1 - table[:, position, 1]).sum() / 25
            assert abs((which == index).mean() - wanted) < 4 * (wanted * (1 - wanted) / 4096) ** 0.5 + 1e-9, name
        signed = magnitudes[which == OPERATIONS.index("translate_y")]
        assert not position or (abs((signed > 0).mean() - 0.5) < 0.1 and np.allclose(abs(signed), SIZE[0] * 150 / 331))


def test_augmix_draws_levels_up_to_its_severity(drawn):
    registry.augmentations.build("augmix(severity=5.0, width=2)")(jax.random.key(0), batch(1024))
    assert len(drawn) == 3  # positions; the chains are one batch
    which, magnitudes = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert set(which) == {OPERATIONS.index(name) for name in augmix.DRAWN}
    assert {len(part) for part, _ in drawn} == {2 * 1024}

    def range_of(name):
        found = abs(magnitudes[which == OPERATIONS.index(name)])
        return found.min(), found.max()

    # The authors' code: level uniform in 0.1 to 5; shear 0.03 a level, translation 1/30 of the size, whole degrees, ...
    np.testing.assert_allclose(range_of("shear_x"), (0.003, 0.15), atol=0.003)
    np.testing.assert_allclose(range_of("translate_x"), (0.12, 6.0), atol=0.1)
    np.testing.assert_allclose(range_of("translate_y"), (0.08, 4.0), atol=0.1)
    assert set(abs(magnitudes[which == OPERATIONS.index("rotate")])) == set(range(15))
    assert set(magnitudes[which == OPERATIONS.index("posterize")]) == {3.0, 4.0}  # 4 - int(0.4 * level)
    np.testing.assert_allclose(range_of("solarize"), (128, 253.4), atol=2)


def test_mixtures_follow_algorithm_1():
    rng = np.random.default_rng(0)
    images, chains = rng.random((5, 3, 4, 2)), rng.random((5, 3, 3, 4, 2))
    chain_weights, weights = rng.dirichlet([1, 1, 1], 5), rng.random(5)
    mixture = augmix.mixed(*(jnp.asarray(a, jnp.float32) for a in (images, chains, chain_weights, weights)))
    for i in range(5):
        wanted = (1 - weights[i]) * images[i] + weights[i] * sum(chain_weights[i, k] * chains[i, k] for k in range(3))
        np.testing.assert_allclose(mixture[i], wanted, rtol=1e-5)


def test_the_depth_of_chains_is_drawn_from_one_to_three(monkeypatch):
    monkeypatch.setattr(augmix, "_operated", lambda key, images, severity, **options: images + 1)
    monkeypatch.setattr(augmix, "mixed", lambda images, chains, chain_weights, weights: chains[:, 0])
    for spec, depths in (("augmix", {1, 2, 3}), ("augmix(depth=2)", {2})):
        result = registry.augmentations.build(spec)(jax.random.key(0), batch(512))["inputs"]
        counts = np.bincount(np.asarray(result[:, 0, 0, 0]).astype(int))
        assert set(np.flatnonzero(counts)) == depths
        assert counts.max() < 1.3 * 512 / len(depths)


def test_views_leave_the_image_as_it_is():
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3))
    result = registry.augmentations.build("augmix(num_views=2, depth=1)")(jax.random.key(1), {"inputs": images})
    assert np.array_equal(result["inputs"], images)
    assert result["views"].shape == (4, 2, 8, 8, 3)
    assert not np.allclose(result["views"][:, 0], result["views"][:, 1])


@pytest.mark.parametrize(
    "spec", ["augmix(severity=11.0)", "augmix(width=0)", "augmix(depth=-1)", "augmix(alpha=0.0)", "autoaugment(fill=2)"]
)
def test_impossible_arguments_are_refused(spec):
    with pytest.raises(ValueError, match="expected"):
        registry.augmentations.build(spec)


def test_the_divergence_is_scipys():
    from scipy.special import softmax
    from scipy.stats import entropy

    logits = 3 * np.random.default_rng(0).normal(size=(3, 6, 4))
    distributions = softmax(logits, axis=-1)
    wanted = [entropy(distributions[:, i].mean(0)) - entropy(distributions[:, i], axis=-1).mean() for i in range(6)]
    np.testing.assert_allclose(consistency.jensen_shannon(jnp.asarray(logits, jnp.float32)), wanted, rtol=1e-4)


def test_the_task_adds_the_divergence_of_the_views_in_training_alone():
    def apply(params, state, inputs, *, train, key):
        return inputs.reshape(len(inputs), -1) @ params, {"count": state["count"] + len(inputs)}

    model = Model(init=None, apply=apply)  # pyright: ignore[reportArgumentType]
    key = jax.random.key(0)
    inputs, views = jax.random.normal(key, (4, 3)), jax.random.normal(jax.random.key(1), (4, 2, 3))
    rows = {"inputs": inputs, "views": views, "targets": jnp.array([0, 1, 1, 0]), "mask": jnp.ones(4)}
    params, state = jax.random.normal(jax.random.key(2), (3, 2)), {"count": 0}
    ours, plain = (registry.tasks.build(spec, num_classes=2) for spec in ("consistency(weight=5.0)", "multiclass"))
    values, new = ours.loss(model, params, state, rows, train=True, key=key)
    wanted, _ = plain.loss(model, params, state, rows, train=True, key=key)
    logits = jnp.stack([inputs @ params, views[:, 0] @ params, views[:, 1] @ params])
    np.testing.assert_allclose(values["loss"], wanted["loss"] + 5 * consistency.jensen_shannon(logits), rtol=1e-5)
    np.testing.assert_array_equal(values["accuracy"], wanted["accuracy"])
    assert new["count"] == 12  # one pass of all
    values, _ = ours.loss(model, params, state, rows, train=False, key=None)
    np.testing.assert_allclose(values["loss"], wanted["loss"], rtol=1e-6)
    with pytest.raises(ValueError, match="augmix"):
        ours.loss(model, params, state, {k: v for k, v in rows.items() if k != "views"}, train=True, key=key)


def test_consistency_trains_and_predicts(tmp_path):
    config = jv.Config(
        dataset="synthetic(num_examples=80, image_size=8)",
        model="cnn(channels=(4,), dense=(4,))",
        task="consistency",
        augmentations="horizontal_flip, augmix(num_views=2, depth=1)",
        batch_size=8,
        steps=2,
        grad_accum_steps=2,
    )
    result = jv.train(config, workdir=tmp_path / "run")
    assert [row["split"] for row in result.history] == ["train", "validation"]
    assert result.history[0]["loss"] > result.history[0]["divergence"] > 0
    assert result.test is not None and "divergence" not in result.test
    assert jv.predict(tmp_path / "run", [np.zeros((8, 8, 3), np.uint8)])
