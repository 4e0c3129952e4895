"""The scaling model: formulas by hand, and compiled steps that communicate the stated bytes."""

import dataclasses
import math
import re
import shlex

import jax
import jax.numpy as jnp
import pytest
import scaling
from jax.sharding import NamedSharding, PartitionSpec
from scaling import Setup, predict, ring_seconds

from jaxvision import registry
from jaxvision import run as runs
from jaxvision.cli.errors import run_command
from jaxvision.config import Config, Execution
from jaxvision.data import open_dataset
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import step
from jaxvision.engine.augmentation import chain

METRICS = 3 * 4  # three scalars beside gradients and statistics: sums of the values and of the mask


def compiled(spec, mesh, *, size=8):
    """Compiles the train step for a mesh: (its state's shapes and shardings, its text)."""
    config = Config(dataset=f"synthetic(num_examples=60, num_classes=3, image_size={size})", batch_size=8, model=spec)
    run = runs.build(config, open_dataset(config), execution=Execution(mesh=mesh))
    optimizer = registry.optimizers.build("sgd", learning_rate=0.1)
    state = jax.eval_shape(lambda: step.init_state(run.model, optimizer, jnp.zeros((1, size, size, 3)), seed=0))
    shardings = meshes.state_shardings(state, run.mesh)
    gradient = meshes.all_gather_params(registry.gradients.build("mean"), run.mesh)
    train_step = step.make_train_step(run.model, run.task, optimizer, chain([]), gradient=gradient)
    rows = NamedSharding(run.mesh, PartitionSpec(meshes.AXES))
    batch = meshes.abstract(
        example := runs.example_batch(run, runs.example_inputs(run), 8), jax.tree.map(lambda _: rows, example)
    )
    state = meshes.abstract(state, shardings)
    return state, jax.jit(train_step, out_shardings=(shardings, None)).lower(state, batch).compile().as_text()


def traffic(text):
    """Counts the bytes of each kind of collective in a compiled program: kind -> (instructions, bytes)."""
    found = {}
    for shapes, kind in re.findall(r" = (.*?) (all-\w+|reduce-scatter|collective-permute)(?:-start)?\(", text):
        sizes = [
            math.prod(map(int, filter(None, dims.split(",")))) for dims in re.findall(r"[fs]32\[([\d,]*)\]", shapes)
        ]
        count, total = found.get(kind, (0, 0))
        found[kind] = count + 1, total + 4 * sum(sizes)
    return found


def num_bytes(tree):
    return sum(4 * x.size for x in jax.tree.leaves(tree))


def check_data_parallel(spec, num_norms, **kwargs):
    """Gradients once, batch norm's mean, then its variance, and one number a channel more backward, and metrics."""
    for num_devices in (1, 2, 4):
        state, text = compiled(spec, f"data={num_devices}", **kwargs)
        if num_devices == 1:
            assert traffic(text) == {}
            continue
        assert set(traffic(text)) == {"all-reduce"}
        count, moved = traffic(text)["all-reduce"]
        assert moved == num_bytes(state.params) + num_bytes(state.model_state) * 3 // 2 + METRICS
        assert count - 3 * num_norms in (1, 2)  # the gradients; the mask's sum goes alone or with a norm's


def test_a_data_parallel_step_moves_the_bytes_of_the_formula():
    check_data_parallel("cnn(channels=(4, 4), dense=(8,), padding='SAME')", 0)
    check_data_parallel("cnn(channels=(4, 4), dense=(8,), padding='SAME', batch_norm=True)", 2)


@pytest.mark.slow
def test_so_does_a_residual_network():
    check_data_parallel("resnet18(stem='cifar')", 20 - 3, size=32)  # norms of shortcuts go with those beside them


def test_a_fully_sharded_step_gathers_once_and_all_reduces():
    for num_devices in (2, 4):
        state, text = compiled("cnn(channels=(4, 4), dense=(8,), padding='SAME')", f"data=1,fsdp={num_devices}")
        cut = [p for p in jax.tree.leaves(state.params) if p.sharding.spec]
        moved = traffic(text)
        assert set(moved) == {"all-gather", "all-reduce"}  # a CPU has no reduce-scatter: it reduces all, keeps a share
        assert moved["all-gather"][1] == num_bytes(cut)
        assert num_bytes(state.params) <= moved["all-reduce"][1] <= num_bytes(state.params) + 100  # metrics and norm


def test_one_device_communicates_nothing():
    for mode in ("data", "fsdp", "hybrid"):
        setup = Setup(mode=mode)
        assert scaling.communication_seconds(setup, 1) == 0
        assert predict(setup, 1).milliseconds == pytest.approx(
            {"compute": 52.81, "fixed": 4.25, "exposed": 0, "small": 0, "input": 0}
        )


def test_rings_by_hand():
    assert ring_seconds(8e9, 4, 1e9, 0.5) == pytest.approx(2 * 3 / 4 * 8 + 2 * 3 * 0.5)
    assert ring_seconds(1e9, 10**9, 1e9, 0) == pytest.approx(2)
    assert ring_seconds(1e6, 8, 1e9, 1e-6, passes=3) / ring_seconds(1e6, 8, 1e9, 1e-6) == pytest.approx(1.5)
    assert scaling.all_reduce_seconds(0, 1024, 1e9, 1e-6) == pytest.approx(20e-6)  # a tree: 10 up, 10 down


def test_modes_by_hand():
    setup = Setup(parameters=10**9, bytes_per_parameter=4, link_gigabytes=40, network_gigabytes=10)
    setup = dataclasses.replace(setup, latency_microseconds=0)

    def seconds(mode, n):
        return scaling.communication_seconds(dataclasses.replace(setup, mode=mode), n)

    assert seconds("data", 8) == pytest.approx(2 * 7 / 8 * 0.1)
    assert seconds("data", 16) == pytest.approx(2 * 7 / 8 * 0.1 + 2 * 1 / 2 * 0.4)
    assert seconds("hybrid", 16) == pytest.approx(3 * 7 / 8 * 0.1 + 2 * 1 / 2 * 0.4)
    assert seconds("fsdp", 8) == pytest.approx(3 * 7 / 8 * 0.1)
    assert seconds("fsdp", 16) == pytest.approx(3 * 15 / 16 * 0.4)


def test_what_the_backward_pass_hides_costs_nothing():
    slow = Setup(link_gigabytes=1.0, fixed_milliseconds=0, step_seconds=0.06, overlap=0.5)
    travels = 1e3 * scaling.communication_seconds(slow, 8)
    assert predict(slow, 8).milliseconds["exposed"] == pytest.approx(travels - 0.5 * 2 / 3 * 60)
    assert predict(dataclasses.replace(slow, overlap=0), 8).milliseconds["exposed"] == pytest.approx(travels)
    assert predict(Setup(), 8).milliseconds["exposed"] == 0


def test_input_bounds_a_host():
    row = predict(Setup(host_images=1000.0), 16)
    assert row.images_per_second == pytest.approx(2000) and row.bound() == "input"


@pytest.mark.parametrize("mode", ["data", "fsdp", "hybrid"])
@pytest.mark.parametrize("kind", ["weak", "strong"])
@pytest.mark.parametrize("changes", [{}, {"host_images": 500.0}, {"global_batch": 3001}, {"fixed_milliseconds": 0}])
def test_efficiency_is_never_above_one(mode, kind, changes):
    rows = scaling.table(Setup(mode=mode, scaling=kind, **changes))
    rates = [row.images_per_second / row.devices for row in rows]
    assert all(0 < rate <= rates[0] * (1 + 1e-9) for rate in rates)


def test_strong_scaling_ends_at_what_does_not_shrink():
    setup = Setup(scaling="strong", latency_microseconds=0, link_gigabytes=1e6, network_gigabytes=1e6)
    row = predict(dataclasses.replace(setup, global_batch=2**40, step_seconds=1.0, fixed_milliseconds=1.0), 2**40)
    assert row.images_per_second == pytest.approx(2**40 / (0.001 + 0.999 / 400), rel=0.01)
    ideal = dataclasses.replace(setup, fixed_milliseconds=0)
    assert predict(ideal, 64).images_per_second == pytest.approx(64 * predict(ideal, 1).images_per_second, rel=0.01)
    assert len(scaling.table(Setup(scaling="strong", global_batch=9))) == 4  # 1, 2, 4, 8: each has an image


def test_published_runs_are_met():
    """MLPerf Training v3.0 on H100: 8 and 64 devices gave the defaults; 512 and 3,584 did not."""
    for devices, batch, published, within in ((64, 3200, 294_860, 0.01), (512, 20_480, 2.07e6, 0.05)):
        setup = Setup(scaling="strong", global_batch=batch, small_reductions=0)
        assert predict(setup, devices).images_per_second == pytest.approx(published, rel=within)
    setup = Setup(scaling="strong", global_batch=57_344, small_reductions=0)
    assert predict(setup, 3584).images_per_second == pytest.approx(10.0e6, rel=0.2)


def test_the_document_shows_what_the_command_prints(root, capsys):
    text = (root / "docs" / "scaling.md").read_text()
    shown = re.findall(r"```sh\npython scripts/scaling.py(.*?)\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert len(shown) >= 2
    for argv, output in shown:
        assert run_command(scaling.main, shlex.split(argv), "scripts/scaling.py") == 0
        assert capsys.readouterr().out == output


def test_the_verdict_names_count_and_part():
    assert "stops paying at 2 devices" in scaling.report(Setup(host_images=17_800.0))
    assert "'input'" in scaling.report(Setup(host_images=17_800.0))
    assert "pays up to 4,096 devices" in scaling.report(Setup())
    assert "cannot be spread" in scaling.report(Setup(scaling="strong", global_batch=1))


BAD_FLAGS = {
    "--overlap=2": "overlap=2.0 must be at most 1",
    "--overlp=1": "did you mean --overlap?",
    "--overlap=x": "could not convert",
    "--mode=dat": "data|fsdp|hybrid",
    "--parameters=0": "parameters=0 must be above 0",
    "--step_seconds=nan": "step_seconds=nan must be above 0 and finite",
    "--latency_microseconds=-1": "must be at least 0",
    "--fixed_milliseconds=90": "must be less than step_seconds",
    "--devices_per_host=6": "must be a power of two",
    "much": "accepts only flags, as in --quick, not",
}


@pytest.mark.parametrize("flag", BAD_FLAGS)
def test_bad_flags_get_one_line(flag, capsys):
    assert run_command(scaling.main, [flag], "scripts/scaling.py") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and BAD_FLAGS[flag] in said.err
