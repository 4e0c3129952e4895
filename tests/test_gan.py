"""GANs: losses by hand, separate parameters of generator and discriminator, metrics of generated images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import generative_metrics, registry
from jaxvision.cli import run

SYNTHETIC = "synthetic(num_examples=120, image_size=8, channels=1, num_classes=3)"
PAIR = "gan(hidden=8, noise_size=4)"


def pair():
    model = registry.models.build(PAIR, output_size=1, input_size=(8, 8, 1))
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    batch = {"inputs": jax.random.uniform(jax.random.key(1), (5, 8, 8, 1)), "mask": jnp.ones(5)}
    return registry.tasks.build("gan", num_classes=3), model, params, state, batch


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_their_definition(smoothing):
    _, model, params, state, batch = pair()
    task = registry.tasks.build(f"gan(smoothing={smoothing})", num_classes=3)
    key = jax.random.key(2)
    values, _ = task.loss(model, params, state, batch, train=True, key=key)
    keys = jax.random.split(jax.random.split(key, 5)[0], 5)
    made, _ = model.parts["generator"].apply(params, state, keys, train=True, key=key)
    real, fake = (
        np.asarray(jax.nn.sigmoid(model.apply(params, state, x, train=True, key=key)[0][:, 0]), np.float64)
        for x in (batch["inputs"], made)
    )
    of_real = -(1 - smoothing) * np.log(real) - smoothing * np.log(1 - real)
    np.testing.assert_allclose(values["discriminator_loss"], of_real - np.log(1 - fake), rtol=1e-5)
    np.testing.assert_allclose(values["generator_loss"], -np.log(fake), rtol=1e-5)
    np.testing.assert_array_equal(values["fake_accuracy"], fake < 0.5)


@pytest.mark.parametrize(("loss", "other"), [("discriminator_loss", "generator"), ("generator_loss", "discriminator")])
def test_each_loss_moves_its_own_parameters_alone(loss, other):
    task, model, params, state, batch = pair()

    def total(params):
        return task.loss(model, params, state, batch, train=True, key=jax.random.key(0))[0][loss].sum()

    gradients = jax.grad(total)(params)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients.pop(other)))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(gradients))


def test_a_sample_depends_on_its_own_input_alone():
    task, model, params, state, batch = pair()
    made = task.predict(model, params, state, batch)
    order = jnp.array([3, 1, 4, 0, 2])
    np.testing.assert_allclose(
        task.predict(model, params, state, {"inputs": batch["inputs"][order]}), made[order], atol=1e-6
    )
    assert len(np.unique(np.asarray(made).round(6), axis=0)) == 5 and made.min() >= 0 and made.max() <= 1
    pixels = (255 * batch["inputs"]).round().astype(jnp.uint8)
    np.testing.assert_allclose(task.predict(model, params, state, {"inputs": pixels}), made, atol=1e-6)


def test_parts_learn_at_their_own_rates():
    _, _, params, _, _ = pair()
    optimizer = registry.optimizers.build(
        "partition(generator='sgd(momentum=0)', discriminator='sgd(momentum=0)', ratio=0.5)", learning_rate=0.2
    )
    gradients = jax.tree.map(jnp.ones_like, params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    for part, rate in (("generator", 0.2), ("discriminator", 0.1)):
        assert all(jnp.allclose(leaf, -rate) for leaf in jax.tree.leaves(updates[part]))


def test_the_distance_is_that_of_the_formula():
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(50, 4)), rng.normal(1, 2, (70, 4)) @ rng.normal(size=(4, 4))
    covariances = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    wanted = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert generative_metrics.frechet_distance(one, other) == pytest.approx(wanted)
    assert generative_metrics.frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A generator, and a classifier of the same images."""
    folder = tmp_path_factory.mktemp("runs")
    config = jv.Config(dataset=SYNTHETIC, steps=6, eval_every=3, batch_size=20)
    made = jv.train(
        config.replace(model=PAIR, task="gan", optimizer="partition", validation_fraction=0.2), workdir=folder / "gan"
    )
    jv.train(config.replace(model="cnn(channels=(4,), dense=8)"), workdir=folder / "classifier")
    return made, folder


def test_samples_are_drawn_at_each_evaluation(runs):
    made, folder = runs
    assert sorted(file.name for file in (folder / "gan" / "samples").iterdir()) == ["00000003.png", "00000006.png"]
    with Image.open(folder / "gan" / "report" / "samples.png") as image:
        assert min(image.size) > 200
    assert {"discriminator_loss", "generator_loss"} <= made.test.keys() and "accuracy" not in made.test


def test_a_classifier_judges_what_is_made(runs):
    _, folder = runs
    report = jv.evaluate(folder / "gan", fid_classifier=folder / "classifier")
    assert sum(report["class_fractions"].values()) == pytest.approx(1)
    assert report["min_class_fraction"] == min(report["class_fractions"].values())
    noise, training = (report["baseline"][name]["frechet_distance"] for name in ("noise", "training images"))
    assert training < noise and training < report["frechet_distance"]


def test_who_cannot_judge_is_told(runs, tmp_path, capsys):
    _, folder = runs
    small = jv.Config(dataset=SYNTHETIC, steps=1, batch_size=20, model="cnn(channels=(4,), dense=8)")
    jv.train(small.replace(dataset=SYNTHETIC.replace("size=8", "size=12")), workdir=tmp_path / "other")
    assert run("evaluate", [f"--workdir={folder / 'gan'}", f"--fid_classifier={tmp_path / 'other'}"]) == 2
    assert "takes images of (12, 12, 1)" in capsys.readouterr().err
    assert run("evaluate", [f"--workdir={folder / 'gan'}", f"--fid_classifier={folder / 'gan'}"]) == 2
    assert "does not predict classes" in capsys.readouterr().err
    assert run("evaluate", [f"--workdir={folder / 'classifier'}", f"--fid_classifier={folder / 'classifier'}"]) == 2
    assert "generates none" in capsys.readouterr().err
    assert (
        run(
            "launch",
            [
                f"--dataset={SYNTHETIC}",
                "--task=gan",
                "--model=mlp",
                "--steps=1",
                "--batch_size=20",
                f"--workdir={tmp_path / 'no'}",
            ],
        )
        == 2
    )
    assert "--model=gan or --model=dcgan" in capsys.readouterr().err and not (tmp_path / "no").exists()
