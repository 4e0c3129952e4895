"""Which checkpoints are kept and which is restored, across closing and reopening."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.distributed.mesh import make_mesh
from jaxvision.engine.checkpoint import Checkpoints
from jaxvision.interfaces import Monitor, TrainState


def state(step):
    params = {"kernel": jnp.full((2, 3), float(step))}
    return TrainState(jnp.int32(step), params, {}, {"momentum": params}, None, jax.random.key(step))


ACCURACY = Monitor("accuracy", "max")


def save(folder, scores, *, monitor=ACCURACY):
    """Saves steps with the scores given, opening anew for each; gives the steps that are left and their ranking."""
    checkpoints = None
    for step, score in scores.items():
        checkpoints = Checkpoints(folder, monitor=monitor, max_to_keep=2)
        checkpoints.save(state(step), sums={"loss": 0.1 * step})
        if score is not None:
            checkpoints.add_values(step, {"accuracy": score})
        checkpoints.close()
    assert checkpoints is not None
    return checkpoints.steps(), checkpoints.ranked()


@pytest.mark.parametrize(
    ("mode", "scores", "kept", "best"),
    [
        ("max", {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.2, 5: 0.4}, [2, 4, 5], 2),
        ("max", {1: 0.1, 2: 0.9, 3: 0.9, 4: None, 5: None, 6: 0.2}, [3, 5, 6], 3),
        ("min", {1: 0.1, 2: 0.9, 3: 0.3, 4: 0.2}, [1, 3, 4], 1),
        ("min", {1: 0.5, 2: float("nan"), 3: 0.6, 4: 0.7, 5: 0.8}, [1, 4, 5], 1),
        ("max", {1: None, 2: None, 3: None}, [2, 3], 3),
    ],
)
def test_the_best_outlives_resuming_and_is_ranked_first(tmp_path, mode, scores, kept, best):
    steps, ranked = save(tmp_path / "checkpoints", scores, monitor=Monitor("accuracy", mode))
    assert steps == kept and ranked[0] == best
    again = Checkpoints(tmp_path / "checkpoints", monitor=Monitor("accuracy", mode), read_only=True)
    assert again.ranked() == ranked
    mesh = make_mesh()
    step, (params, _) = again.restore_model(ranked, (state(0).params, {}), mesh, ema=False)
    assert step == best and (np.asarray(params["kernel"]) == best).all()
    again.close()


def test_without_a_value_to_choose_by_the_newest_is_taken(tmp_path):
    steps, ranked = save(tmp_path / "checkpoints", {1: 0.9, 2: 0.1, 3: 0.2}, monitor=None)
    assert steps == [2, 3] and ranked == [3, 2]


def test_all_of_a_state_comes_back(tmp_path):
    save(tmp_path / "checkpoints", {7: None})
    checkpoints = Checkpoints(tmp_path / "checkpoints", monitor=ACCURACY)
    found, sums = checkpoints.restore(state(0), make_mesh())
    expected = state(7)
    assert int(found.step) == 7 and sums == {"loss": pytest.approx(0.7)}
    assert jax.random.key_data(found.key).tolist() == jax.random.key_data(expected.key).tolist()
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found[1:4]), jax.tree.leaves(expected[1:4]), strict=True)
    )
    checkpoints.close()
    empty = Checkpoints(tmp_path / "none")
    assert int(empty.restore(state(3), make_mesh())[0].step) == 3
    empty.close()


@pytest.mark.slow
def test_saving_each_epoch_costs_less_than_a_fiftieth_of_training(tmp_path):
    from jaxvision import run as runs
    from jaxvision.config import Config, Execution
    from jaxvision.data import open_dataset
    from jaxvision.engine import pipeline
    from jaxvision.training_setup import prepare

    config = Config(model="cnn", dataset="synthetic(num_examples=4096, num_classes=10, image_size=32)")
    data = open_dataset(config)
    setup = prepare(runs.build(config, data, execution=Execution(mesh="data=1")), data)
    state, times, saves = setup.make_state()[0], [], []
    checkpoints = Checkpoints(tmp_path / "checkpoints", max_to_keep=2)
    batches = pipeline.train_batches(data.train, config.batch_size, seed=0)
    for _, batch in zip(range(60), batches, strict=False):
        began = time.perf_counter()
        state, means, _ = setup.train_step(state, batch, 0)
        jax.block_until_ready(means)
        times.append(time.perf_counter() - began)
        if len(times) % 10 == 0:  # waited for: the most that it can cost, with nothing beside it
            began = time.perf_counter()
            checkpoints.save(state, sums={})
            checkpoints.wait()
            saves.append(time.perf_counter() - began)
    batches.close()
    checkpoints.close()
    epoch = np.median(times) * 45_000 / config.batch_size  # CIFAR-10, less a tenth for validation
    print(f"a save takes {np.median(saves):.3f} s, an epoch {epoch:.1f} s: {np.median(saves) / epoch:.2%}")
    assert np.median(saves) < 0.02 * epoch


def test_what_fails_only_when_the_folder_is_let_go_of_is_told_in_one_line(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def fail():
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    monkeypatch.setattr(checkpoints._manager, "close", fail)
    with pytest.raises(OSError, match=r"a checkpoint cannot be written to .*No space left on device"):
        checkpoints.close()
