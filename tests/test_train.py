"""Training end to end on tiny data: metrics, bitwise resume, and workdirs that are rejected."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxvision as jv
from jaxvision import registry
from jaxvision.data import open_dataset
from jaxvision.distributed import compilation
from jaxvision.distributed import mesh as meshes
from jaxvision.engine import logs, pipeline
from jaxvision.engine.timing import StepTimer
from jaxvision.models import airbench

CONFIG = jv.Config(
    dataset="synthetic(num_examples=107, num_classes=3, image_size=8)",
    model="cnn(channels=(4,), dense=(8,), padding='SAME', batch_norm=True, dropout=0.2)",
    optimizer="sgd",
    augmentations="alternating_flip, random_crop(padding=1)",
    schedule="cosine(warmup=0.2)",
    batch_size=20,
    eval_every=4,
    steps=10,
)


def arrays(workdir, step=None):
    """All leaves of a checkpoint as raw bytes, by path."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(
        workdir / "checkpoints", options=ocp.CheckpointManagerOptions(read_only=True)
    ) as manager:
        args = ocp.args.Composite(model=ocp.args.StandardRestore(), training=ocp.args.StandardRestore())
        found = manager.restore(manager.latest_step() if step is None else step, args=args)
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(found.items()))
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def rows(workdir):
    """The rows of metrics.jsonl, less the time they took."""
    found = logs.read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in ("seconds", "data_wait_fraction")} for row in found]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    return jv.train(CONFIG, workdir=folder)


def test_a_run_leaves_what_later_verbs_read(straight):
    names = {p.name for p in straight.workdir.iterdir()}
    assert {"config.json", "execution.json", "signature.json", "metrics.jsonl", "checkpoints", "report"} <= names
    assert {p.name for p in (straight.workdir / "report").iterdir()} >= {
        "report.json",
        "confusion_matrix.png",
        "curves.png",
    }
    assert [(r["step"], r["split"]) for r in straight.history] == [
        (s, split) for s in (4, 8, 10) for split in ("train", "validation")
    ]
    assert straight.history[0]["epoch"] == pytest.approx(4 * 20 / 77)
    assert straight.test["accuracy"] == pytest.approx(np.trace(straight.test["confusion_matrix"]) / 21, abs=1e-6)


def test_a_model_is_adapted_to_training_images_once(tmp_path):
    config = CONFIG.replace(
        model="airbench94(channels=(4, 4, 4))", dataset="synthetic(num_examples=107, num_classes=3, image_size=9)",
        optimizer="muon_sgd", steps=2, eval_every=1,
    )  # fmt: skip
    result = jv.train(config, workdir=tmp_path / "run")
    data = open_dataset(config)
    mean, std = np.array(data.preprocessing.mean), np.array(data.preprocessing.std)
    images = data.train.read(np.arange(len(data.train))).astype(np.float32) / 255
    expected = airbench.whitening(((images - mean) / std).astype(np.float32))
    for step in (1, 2):  # training leaves it as it is
        kernel = np.frombuffer(arrays(result.workdir, step)["['model']['model_state']['whitening']['kernel']"], "f4")
        np.testing.assert_allclose(np.abs(kernel), np.abs(expected.ravel()), rtol=2e-3, atol=1e-3)


def test_training_is_a_function_of_the_seed(straight, tmp_path):
    again = jv.train(CONFIG, workdir=tmp_path / "again")
    assert rows(again.workdir) == rows(straight.workdir)
    assert arrays(again.workdir) == arrays(straight.workdir)
    other = jv.train(CONFIG.replace(seed=1), workdir=tmp_path / "other")
    assert arrays(other.workdir) != arrays(straight.workdir)


@pytest.fixture
def holding(monkeypatch):
    """The sizes that were asked about, where devices hold all data, as GPUs and TPUs do whose memory suffices."""
    sizes = []
    monkeypatch.setattr(compilation, "fits_in_device_memory", lambda num_bytes, mesh: sizes.append(num_bytes) or True)
    return sizes


@pytest.mark.parametrize("mesh", ["", "data=1"])
def test_data_that_stay_on_the_devices_train_alike(straight, tmp_path, monkeypatch, mesh, holding):
    execution = jv.Execution(mesh=mesh)
    held = jv.train(CONFIG, execution=execution, workdir=tmp_path / "held")
    assert holding == [77 * 8 * 8 * 3]
    for one, other in zip(held.history, straight.history, strict=True):
        assert [one[name] for name in ("step", "split")] == [other[name] for name in ("step", "split")]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    # However many steps are dispatched at once, they compute the same to the last bit.
    monkeypatch.setitem(jv.train.__globals__, "NUM_AT_ONCE", 3)
    again = jv.train(CONFIG, execution=execution, workdir=tmp_path / "again")
    assert rows(again.workdir) == rows(held.workdir) and arrays(again.workdir) == arrays(held.workdir)


def test_steps_dispatched_at_once_end_where_something_is_due(holding):
    train = jv.train.__globals__
    setup = SimpleNamespace(num_steps=21, train_steps=print, data=SimpleNamespace(train=range(77)))
    for eval_every, save_every, expected in [(10, None, [8, 10, 18, 20, 21]), (100, 7, [7, 14, 21])]:
        config, execution = CONFIG.replace(eval_every=eval_every), jv.Execution(save_every=save_every)
        setup.run = SimpleNamespace(config=config, execution=execution)
        assert [numbers[-1] for numbers in train["_dispatches"](setup, 1)] == expected
    assert list(train["_dispatches"](setup, 20)) == [range(20, 22)]
    setup.train_steps = None
    assert list(train["_dispatches"](setup, 20)) == [range(20, 21), range(21, 22)]


def test_a_run_whose_data_stay_on_the_devices_is_resumed_where_it_stood(tmp_path, holding, monkeypatch):
    config = CONFIG.replace(eval_every=20)
    whole = jv.train(config, workdir=tmp_path / "whole")
    compile_steps, calls = compilation.compile_steps, []

    def interrupting(*arguments, **options):
        train_steps = compile_steps(*arguments, **options)

        def interrupted(state, batches):
            calls.append(len(batches))
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_steps(state, batches)

        return interrupted

    monkeypatch.setattr(compilation, "compile_steps", interrupting)
    with pytest.raises(jv.Interrupted, match="saved at step 8 of 10"):
        jv.train(config, workdir=tmp_path / "run")
    resumed = jv.train(config, workdir=tmp_path / "run")
    assert calls == [8, 2]
    assert rows(resumed.workdir) == rows(whole.workdir) and arrays(resumed.workdir) == arrays(whole.workdir)


@pytest.mark.parametrize("stop_at", [1, 4, 7, 9])
def test_interrupted_and_resumed_equals_straight(straight, tmp_path, monkeypatch, stop_at):
    put, calls = meshes.put_batch, []

    def interrupting(batch, mesh):
        calls.append(1)
        if len(calls) == stop_at and batch["inputs"].shape[0] == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        return put(batch, mesh)

    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", interrupting)
    with pytest.raises(jv.Interrupted, match=f"saved at step {stop_at} of 10") as caught:
        jv.train(CONFIG.replace(eval_every=20), workdir=tmp_path / "run")
    assert caught.value.exit_status == 128 + signal.SIGTERM
    monkeypatch.undo()
    resumed = jv.train(CONFIG.replace(eval_every=20), workdir=tmp_path / "run")
    assert arrays(resumed.workdir) == arrays(straight.workdir)
    assert len(resumed.history) == 2 and resumed.history[-1]["loss"] == straight.history[-1]["loss"]
    whole = jv.train(CONFIG.replace(eval_every=20), workdir=tmp_path / "whole")
    assert rows(resumed.workdir) == rows(whole.workdir)  # the sums of the report under way are saved too


@pytest.mark.parametrize("crop", ["", ", random_crop=(0.3, 1.0)"])
def test_a_streamed_folder_interrupted_and_resumed_equals_straight(photos, tmp_path, monkeypatch, crop):
    config = CONFIG.replace(dataset=f"folder(path='{photos}', image_size=8, stream=True{crop})", batch_size=12, steps=8)
    put, calls = meshes.put_batch, []

    def interrupting(batch, mesh):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return put(batch, mesh)

    whole = jv.train(config, workdir=tmp_path / "whole")
    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", interrupting)
    with pytest.raises(jv.Interrupted):
        jv.train(config, workdir=tmp_path / "run")
    monkeypatch.undo()
    resumed = jv.train(config, workdir=tmp_path / "run")
    assert arrays(resumed.workdir) == arrays(whole.workdir) and rows(resumed.workdir) == rows(whole.workdir)
    assert resumed.test == whole.test


def test_a_fold_of_a_streamed_folder_trains(photos, tmp_path):
    dataset = f"folder(path='{photos}', image_size=8, random_crop=(0.3, 1.0))"
    config = CONFIG.replace(dataset=dataset, fold="1/2", steps=2, eval_every=1, batch_size=8, model="mlp(hidden=(4,))")
    result = jv.train(config, workdir=tmp_path / "run")
    assert np.isfinite(result.history[-1]["loss"])
    assert result.test is not None


def test_rows_and_the_line_for_people_say_how_long_input_was_waited_for(tmp_path, monkeypatch, capsys):
    read = pipeline.train_batches

    def slow(*arguments, **options):
        for batch in read(*arguments, **options):
            time.sleep(0.1)
            yield batch

    monkeypatch.setattr("jaxvision.engine.pipeline.train_batches", slow)
    config = CONFIG.replace(model="mlp(hidden=(4,))", augmentations="", eval_every=2)
    run = jv.train(config, workdir=tmp_path / "run")
    shares = [row["data_wait_fraction"] for row in run.history if row["split"] == "train"]
    assert len(shares) == 5 and all(0 < share <= 1 for share in shares) and max(shares) > 0.5
    assert re.search(r"images/s, \d+% waiting for data, 0:\d\d left", capsys.readouterr().out)
    assert not any("data_wait_fraction" in row for row in run.history if row["split"] != "train")


def test_waiting_is_of_all_steps_of_a_report_though_it_was_interrupted(tmp_path, monkeypatch):
    put, calls = meshes.put_batch, []

    def interrupting(batch, mesh):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return put(batch, mesh)

    read = pipeline.train_batches

    def slow(*arguments, **options):
        for batch in read(*arguments, **options):
            time.sleep(0.1)
            yield batch

    monkeypatch.setattr("jaxvision.engine.pipeline.train_batches", slow)
    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", interrupting)
    config = CONFIG.replace(eval_every=6, steps=6, model="mlp(hidden=(4,))")
    with pytest.raises(jv.Interrupted, match="step 3 of 6"):
        jv.train(config, workdir=tmp_path / "run")
    (row, _) = jv.train(config, workdir=tmp_path / "run").history
    assert 0.5 <= row["data_wait_fraction"] * row["seconds"] <= row["seconds"]


def test_what_is_read_while_a_step_is_computed_is_no_waiting():
    class Means:
        def block_until_ready(self):
            time.sleep(0.3)

    def reading():
        while True:
            time.sleep(0.4)
            yield {}

    with closing(StepTimer(reading())) as clock:
        for _ in range(3):
            clock.next()
            clock.dispatched(Means())
        sums = clock.added({})
    assert sums["seconds"] == pytest.approx(1.2, abs=0.2)
    assert sums["waiting"] == pytest.approx(0.4 + 0.1 + 0.1, abs=0.15)  # nothing is computed yet; then for a quarter


LAUNCH = [
    sys.executable, "scripts/launch.py", *(f"--{k}={getattr(CONFIG, k)}" for k in (
        "dataset", "model", "optimizer", "augmentations", "schedule", "batch_size")), "--steps=300", "--eval_every=30",
    "--save_every=7",
]  # fmt: skip


def test_a_killed_run_goes_on_where_it_stood(tmp_path, root):
    environment = {**os.environ, "JAXVISION_CACHE": str(tmp_path / "cache")}

    def launch(workdir):
        return subprocess.Popen([*LAUNCH, f"--workdir={workdir}"], cwd=root, env=environment, stdout=subprocess.DEVNULL)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process, deadline = launch(killed), time.monotonic() + 120
    while len(list((killed / "checkpoints").glob("[0-9]*"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert launch(killed).wait() == 0
    assert launch(whole).wait() == 0
    assert arrays(killed) == arrays(whole)
    assert rows(killed) == rows(whole)


def test_a_finished_run_says_so_and_evaluates(straight, capsys):
    before = arrays(straight.workdir)
    again = jv.train(CONFIG, workdir=straight.workdir)
    assert "training is already finished, at step 10" in capsys.readouterr().out
    assert again.test == straight.test and arrays(straight.workdir) == before


def test_rows_beyond_the_restored_step_are_dropped(straight, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(straight.workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "10")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "spl')  # what a kill leaves
    resumed = jv.train(CONFIG, workdir=copy)
    assert rows(copy) == rows(straight.workdir)
    assert arrays(resumed.workdir) == arrays(straight.workdir)


def test_another_config_or_other_data_are_refused(straight):
    with pytest.raises(
        ValueError, match=r"other settings: optimizer='sgd' in the run, 'adam' now, seed=0 in the run, 3 now"
    ):
        jv.train(CONFIG.replace(optimizer="adam", seed=3), workdir=straight.workdir)
    jv.train(CONFIG, execution=jv.Execution(save_every=3), workdir=straight.workdir)  # this may change
    jv.train(CONFIG, workdir=straight.workdir)


def test_more_steps_go_on_with_the_schedule_of_the_longer_run(straight, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(straight.workdir, copy)
    longer = jv.train(CONFIG.replace(steps=16), workdir=copy)
    said = capsys.readouterr().out
    assert "changed: steps 10 to 16" in said
    schedules = (registry.schedules.build(CONFIG.schedule, learning_rate=0.1, num_steps=n) for n in (10, 16))
    was, now = (float(schedule(10)) for schedule in schedules)
    assert f"the next learning rate is {now:.3g} and would have been {was:.3g}" in said
    assert [row["step"] for row in longer.history if row["split"] == "train"] == [4, 8, 10, 12, 16]
    constant = CONFIG.replace(schedule="constant", steps=4)
    jv.train(constant, workdir=tmp_path / "constant")
    jv.train(constant.replace(steps=8), workdir=tmp_path / "constant")
    whole = jv.train(constant.replace(steps=8), workdir=tmp_path / "whole")
    assert "the schedule changed" not in capsys.readouterr().out
    assert arrays(whole.workdir) == arrays(tmp_path / "constant")


@pytest.mark.parametrize(
    ("first", "then"),
    [("data=1", "data=4"), ("data=4", "data=2"), ("data=4", "fsdp=4"), ("data=2,fsdp=2", "data=1")],
)
def test_a_run_goes_on_with_the_same_batches_on_another_mesh(tmp_path, first, then):
    config, execution = CONFIG.replace(ema=0.9, schedule="constant"), jv.Execution(mesh=first)
    stopped = jv.train(config.replace(steps=4), execution=execution, workdir=tmp_path / "run")
    whole = jv.train(config, execution=execution, workdir=tmp_path / "whole")
    resumed = jv.train(config, execution=execution.replace(mesh=then), workdir=stopped.workdir)
    one, other = (jv.load(r.workdir, checkpoint=10).params for r in (whole, resumed))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    assert [r["loss"] for r in resumed.history] == pytest.approx([r["loss"] for r in whole.history], abs=1e-3)


def interrupting_evaluation(monkeypatch, batch_of_split):
    """Sends SIGTERM while that batch of the first evaluation is read."""
    batches, calls = pipeline.eval_batches, []

    def interrupting(*args, **options):
        calls.append(1)
        for number, batch in enumerate(batches(*args, **options)):
            if len(calls) == 1 and number == batch_of_split:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr("jaxvision.engine.pipeline.eval_batches", interrupting)


@pytest.mark.parametrize("steps", [4, 10])
def test_a_signal_in_an_evaluation_saves_at_once_and_the_evaluation_is_made_up_for(tmp_path, monkeypatch, steps):
    config, execution = CONFIG.replace(steps=steps), jv.Execution(eval_batch_size=4)
    whole = jv.train(config, execution=execution, workdir=tmp_path / "whole")
    interrupting_evaluation(monkeypatch, 0)
    with pytest.raises(jv.Interrupted, match=f"saved at step 4 of {steps}"):
        jv.train(config, execution=execution, workdir=tmp_path / "run")
    monkeypatch.undo()
    assert rows(tmp_path / "run") == []
    resumed = jv.train(config, execution=execution, workdir=tmp_path / "run")
    assert rows(resumed.workdir) == rows(whole.workdir) and arrays(resumed.workdir) == arrays(whole.workdir)
    assert jv.load(resumed.workdir).step == jv.load(whole.workdir).step
    again = jv.train(config, execution=execution, workdir=tmp_path / "run")
    assert rows(again.workdir) == rows(whole.workdir)


def test_the_average_of_the_parameters_is_what_is_judged(tmp_path):
    config = CONFIG.replace(ema=0.5, steps=3, eval_every=1, model="mlp(hidden=(4,))", augmentations="")
    execution = jv.Execution(save_every=1, max_to_keep=3)
    run = jv.train(config, execution=execution, workdir=tmp_path / "run")
    plain = jv.train(config.replace(ema=None), execution=execution, workdir=tmp_path / "plain")
    kernels = [np.asarray(jv.load(plain.workdir, checkpoint=n).params["head"]["kernel"]) for n in (1, 2, 3)]
    average = np.asarray(jv.load(run.workdir, checkpoint=1).params["head"]["kernel"])
    for number in (1, 2):  # decays of 2/11 and 3/12: the warm-up is below 0.5 here
        rate = 1 - (1 + number) / (10 + number)
        average = average + rate * (kernels[number] - average)
        found = jv.load(run.workdir, checkpoint=number + 1).params["head"]["kernel"]
        np.testing.assert_allclose(found, average, rtol=1e-5, atol=1e-7)
    losses, plain_losses = ([r["loss"] for r in each.history] for each in (run, plain))
    assert losses[::2] == plain_losses[::2] and losses[1::2] != plain_losses[1::2]


def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32(tmp_path):
    config = CONFIG.replace(precision="bf16", steps=6)
    run = jv.train(config, workdir=tmp_path / "run")
    trained = jv.load(run.workdir)
    leaves = jax.tree.leaves((trained.params, trained.model_state))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    single = jv.train(config.replace(precision="f32"), workdir=tmp_path / "single")
    losses, others = ([row["loss"] for row in each.history] for each in (run, single))
    assert losses != others and losses == pytest.approx(others, abs=0.1)
    text = str(jax.make_jaxpr(lambda x: trained.run.model.apply(
        trained.params, trained.model_state, x, train=False, key=None))(np.zeros((1, 8, 8, 3), np.uint8)))  # fmt: skip
    products = [line for line in text.splitlines() if "dot_general" in line or "conv_general" in line]
    assert products and all("bf16" in line for line in products)


def test_double_precision_ends_with_its_run(tmp_path):
    config = CONFIG.replace(steps=2, model="mlp(hidden=(4,))")
    before = jv.train(config, workdir=tmp_path / "before")
    double = jv.train(config.replace(precision="f64"), workdir=tmp_path / "double")
    assert jv.load(double.workdir).params["head"]["kernel"].dtype == np.float64
    after = jv.train(config, workdir=tmp_path / "after")
    assert arrays(after.workdir) == arrays(before.workdir) and not jax.config.jax_enable_x64


def test_what_cannot_be_computed_again_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the model .*cnn\(.* does not support --remat"):
        jv.train(CONFIG, execution=jv.Execution(remat=True), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_changed_are_refused(tmp_path):
    images, labels = np.random.default_rng(0).random((60, 8, 8, 3), np.float32), np.arange(60) % 2
    jv.train(CONFIG.replace(steps=1), workdir=tmp_path / "run", dataset=(images, labels))
    with pytest.raises(ValueError, match="the data changed since the run"):
        jv.train(CONFIG.replace(steps=1), workdir=tmp_path / "run", dataset=(1 - images, labels))
    with pytest.raises(ValueError, match="trained on data in memory: pass them from Python"):
        jv.evaluate(tmp_path / "run")


def test_a_model_of_the_wrong_width_is_refused(tmp_path):
    def wrong(*, output_size: int) -> jv.Model:
        """One output, whatever is asked for."""
        return registry.models.build("mlp(hidden=())", output_size=1)

    registry.models.register("wrong_width")(wrong)
    with pytest.raises(ValueError, match=r"returns outputs of shape \(2, 1\) for two inputs; expected \(2, 3\)"):
        jv.train(CONFIG.replace(model="wrong_width"), workdir=tmp_path / "run")


def test_a_second_run_in_a_workdir_is_refused_and_a_dead_ones_lock_is_not(tmp_path):
    import fcntl

    jv.train(CONFIG.replace(steps=1), workdir=tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX);"
         "f.write('process 7 on elsewhere'); f.flush(); print(flush=True); time.sleep(60)", tmp_path / "run" / "lock"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout and holder.stdout.readline()
    with pytest.raises(ValueError, match=r"another run trains in .*: process 7 on elsewhere"):
        jv.train(CONFIG.replace(steps=1), workdir=tmp_path / "run")
    holder.kill()
    holder.communicate()
    jv.train(CONFIG.replace(steps=1), workdir=tmp_path / "run")
    with open(tmp_path / "run" / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a run that ended holds none


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "holiday.txt").write_text("photos")
    with pytest.raises(ValueError, match="contains files that do not belong to a training run"):
        jv.train(CONFIG, workdir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]


def test_a_kill_before_the_config_is_written_does_no_harm(straight, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("signature.json", ".signature.json.tmp"):
        (tmp_path / "run" / name).write_text('{"cla')
    assert rows(jv.train(CONFIG, workdir=tmp_path / "run").workdir) == rows(straight.workdir)


def test_nothing_is_written_for_what_cannot_run(tmp_path):
    for change in (
        {"batch_size": 80},
        {"optimizer": "adma"},
        {"augmentations": "flop"},
        {"schedule": "cosine(warmup=2.0)"},
    ):
        with pytest.raises(ValueError, match=r"there are only|did you mean|unknown augmentation|expected"):
            jv.train(CONFIG.replace(**change), workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_newest_and_the_best_checkpoints_are_kept(tmp_path):
    config, execution = CONFIG.replace(eval_every=2, steps=12), jv.Execution(save_every=1, max_to_keep=2)
    result = jv.train(config, execution=execution, workdir=tmp_path / "run")
    scores = {r["step"]: r["accuracy"] for r in result.history if r["split"] == "validation"}
    best = max(scores, key=lambda step: (scores[step], step))
    kept = {int(p.name) for p in (result.workdir / "checkpoints").iterdir() if p.name.isdigit()}
    before = max((step for step in scores if step < 12), key=lambda step: (scores[step], step))
    assert kept == {best, before, 11, 12}  # the last save came before its own evaluation
    assert result.test["step"] == best and jv.load(result.workdir).step == best
    assert jv.load(result.workdir, checkpoint=11).step == 11
    with pytest.raises(ValueError, match="has no checkpoint 1;"):
        jv.load(result.workdir, checkpoint=1)


def test_steps_beat_epochs_and_epochs_are_counted():
    from jaxvision.run import count_steps

    assert count_steps(CONFIG, 77) == 10
    assert count_steps(CONFIG.replace(steps=None, epochs=3), 77) == 3 * 77 // 20
    assert count_steps(CONFIG.replace(steps=None, epochs=1, batch_size=77), 77) == 1


def test_the_learning_rate_is_the_schedule_of_the_config(straight):
    schedule = registry.schedules.build(CONFIG.schedule, learning_rate=0.1, num_steps=10)
    shown = [row["learning_rate"] for row in straight.history if row["split"] == "train"]
    assert shown == [float(schedule(step - 1)) for step in (4, 8, 10)]


def test_clipping_and_learning_rate_act(straight, tmp_path):
    for name, change in {"clipped": {"grad_clip_norm": 1e-3}, "slow": {"learning_rate": 1e-6}}.items():
        result = jv.train(CONFIG.replace(**change), workdir=tmp_path / name)
        assert result.history[-2]["loss"] > straight.history[-2]["loss"]


def test_arrays_in_memory_train_and_predict(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.array(["cat", "dog"])[np.arange(80) % 2]
    images = np.where((labels == "dog")[:, None, None], 200, 60) + rng.integers(-50, 50, (80, 8, 8))
    images = images.astype(np.uint8)
    config = jv.Config(model="mlp(hidden=(16,))", task="binary", batch_size=20, epochs=12)
    result = jv.train(
        config,
        workdir=tmp_path / "run",
        dataset={"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])},
    )
    assert result.test["accuracy"] == 1 and result.test["auroc"] == 1
    found = jv.predict(result.workdir, images[60:])
    assert found.labels == list(labels[60:]) and found.probabilities.shape == (20, 2)
    with pytest.raises(ValueError, match="the data changed since the run"):
        jv.evaluate(result.workdir, dataset=(images[:60], labels[:60]))


def test_profile_writes_a_trace(tmp_path):
    jv.train(CONFIG.replace(steps=12), workdir=tmp_path / "run", profile=True)
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


def test_tensorboard_files_are_written_where_it_is_installed(straight):
    pytest.importorskip("tensorboardX")
    assert list((straight.workdir / "tensorboard").glob("events*"))


def poisoned(monkeypatch, step):
    """Makes the inputs of one training step infinite."""
    put, calls = meshes.put_batch, []

    def poison(batch, mesh):
        calls.append(1)
        inputs = batch["inputs"].astype(np.float32) / 255
        return put({**batch, "inputs": np.full_like(inputs, np.inf) if len(calls) == step else inputs}, mesh)

    monkeypatch.setattr("jaxvision.distributed.compilation.put_batch", poison)


def test_a_loss_that_is_not_finite_stops_and_keeps_what_is_good(tmp_path, monkeypatch, straight):
    config, execution = CONFIG.replace(eval_every=20), jv.Execution(save_every=3)
    poisoned(monkeypatch, 7)
    with pytest.raises(FloatingPointError, match=r"loss is nan and gradient_norm is nan at step 7.*--learning_rate"):
        jv.train(config, execution=execution, workdir=tmp_path / "run")
    monkeypatch.undo()
    assert jv.load(tmp_path / "run").step == 6
    resumed = jv.train(config, execution=execution, workdir=tmp_path / "run")
    assert resumed.history[-1]["step"] == 10


def test_updates_that_are_not_finite_are_dropped_and_counted(tmp_path, monkeypatch):
    execution = jv.Execution(on_nonfinite="skip", save_every=1, max_to_keep=9)
    poisoned(monkeypatch, 4)
    run = jv.train(CONFIG.replace(eval_every=20), execution=execution, workdir=tmp_path / "run")
    assert run.history[0]["num_skipped"] == 1 and np.isfinite(run.history[0]["loss"])
    three, four, five = (arrays(run.workdir, step) for step in (3, 4, 5))
    changed = {path for path in three if three[path] != four[path]}
    (schedule,) = (path for path in three if path.endswith("['count']"))
    assert changed == {"['training']['step']", schedule}  # by which the learning rate is the one that the rows say
    assert four != five


def damage(step, how):
    """Damages the files that hold a checkpoint's parameters: a bit here and there, or their second half."""
    for file in (p for p in (step / "model").rglob("d/*") if p.is_file()):
        content = bytearray(file.read_bytes())
        for place in range(40, len(content), 80):
            content[place] ^= 16
        file.write_bytes(bytes(content if how == "flipped" else content[: len(content) // 2]))


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(straight, tmp_path, how):
    copy = tmp_path / "copy"
    shutil.copytree(straight.workdir, copy)
    saved = sorted(int(p.name) for p in (copy / "checkpoints").iterdir() if p.name.isdigit())
    damage(copy / "checkpoints" / str(saved[-1]), how)
    with pytest.warns(UserWarning, match=rf"the checkpoint of step {saved[-1]} .*; using that of step {saved[-2]}"):
        jv.train(CONFIG, workdir=copy)
    assert arrays(copy) == arrays(straight.workdir) and rows(copy) == rows(straight.workdir)
    aside = list((copy / "checkpoints").glob(f"damaged-{saved[-1]}-*"))
    assert len(aside) == 1 and (aside[0] / "model").is_dir()  # whoever was wrong about it, it is not lost
    for step in saved:
        damage(copy / "checkpoints" / str(step), how)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read"):
        jv.train(CONFIG, workdir=copy)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read"):
        jv.load(copy)


def test_damaged_values_choose_nothing_and_are_measured_again(straight, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(straight.workdir, copy)
    file = copy / "checkpoints" / "10" / "values.json"
    content = json.loads(file.read_text())
    values = content["values"]
    file.write_text(json.dumps({**content, "values": {**values, "accuracy": 0.125}}))
    with pytest.warns(UserWarning, match="the values of the checkpoint of step 10 are damaged"):
        jv.train(CONFIG, workdir=copy)
    assert json.loads(file.read_text())["values"] == values and rows(copy) == rows(straight.workdir)


def test_damage_is_told_in_one_line(straight, tmp_path, root):
    shutil.copytree(straight.workdir, tmp_path / "copy")
    for step in (tmp_path / "copy" / "checkpoints").iterdir():
        damage(step, "truncated")
    words = [sys.executable, "-m", "jaxvision", "predict", f"--workdir={tmp_path / 'copy'}", "tests/conftest.py"]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no checkpoint" in done.stderr


def test_a_half_written_checkpoint_is_none(straight, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(straight.workdir, copy)
    step = copy / "checkpoints" / "10"
    step.rename(step.with_name("10.orbax-checkpoint-tmp"))
    jv.train(CONFIG, workdir=copy)
    assert arrays(copy) == arrays(straight.workdir) and rows(copy) == rows(straight.workdir)


def test_the_signature_describes_the_inputs(straight):
    signature = json.loads((straight.workdir / "signature.json").read_text())
    assert signature["classes"] == ["class 0", "class 1", "class 2"]
    assert signature["preprocessing"]["size"] == [8, 8] and "jax" in signature["versions"]
    loaded = jv.load(straight.workdir)
    assert loaded.run.signature.preprocessing.size == (8, 8) and loaded.step == straight.test["step"]


def test_where_all_steps_are_skipped_the_run_ends_and_says_so(tmp_path):
    config = CONFIG.replace(learning_rate=1e38, optimizer="sgd", schedule="constant", augmentations="")
    config, execution = config.replace(model="mlp(hidden=(4,))", steps=40), jv.Execution(on_nonfinite="skip")
    with pytest.raises(FloatingPointError, match=r"all 4 steps up to step \d+ were skipped.*lower --learning_rate"):
        jv.train(config, execution=execution, workdir=tmp_path / "run")


def test_a_model_that_gives_no_numbers_is_not_judged(tmp_path):
    config = CONFIG.replace(model="mlp(hidden=(4,))", learning_rate=1e38, schedule="constant")
    config, execution = config.replace(steps=1, eval_every=None), jv.Execution(on_nonfinite="skip")
    with pytest.raises(FloatingPointError, match=r"predictions of step 1 in .* are not finite"):
        jv.train(config, execution=execution, workdir=tmp_path / "run")


def test_an_epoch_counts_all_that_a_step_accumulates(tmp_path):
    config = CONFIG.replace(eval_every=None, steps=None, epochs=3, augmentations="", model="mlp(hidden=(4,))")
    whole = jv.train(config.replace(batch_size=20), workdir=tmp_path / "whole")
    parts = jv.train(config.replace(batch_size=4, grad_accum_steps=5), workdir=tmp_path / "parts")
    assert [row["step"] for row in parts.history] == [row["step"] for row in whole.history]


def test_seconds_are_of_training_alone(tmp_path, monkeypatch):
    read = pipeline.eval_batches

    def slow(*arguments, **options):
        time.sleep(1.0)
        yield from read(*arguments, **options)

    monkeypatch.setattr("jaxvision.engine.pipeline.eval_batches", slow)
    run = jv.train(CONFIG.replace(eval_every=2, model="mlp(hidden=(4,))"), workdir=tmp_path / "run")
    assert all(row["seconds"] < 0.9 for row in run.history[2:] if row["split"] == "train")


@pytest.mark.parametrize("name", registry.optimizers.names())
@pytest.mark.slow
def test_every_optimizer_trains_and_resumes(name, tmp_path):
    config = CONFIG.replace(optimizer=name, steps=4, eval_every=2)
    whole = jv.train(config, workdir=tmp_path / "whole")
    shutil.copytree(whole.workdir, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
    assert arrays(jv.train(config, workdir=tmp_path / "again").workdir) == arrays(whole.workdir)
