"""Several processes on one machine, as on a cluster: they train, stop and fail together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import jaxvision as jv
from jaxvision.distributed import cluster
from jaxvision.engine import logs

FLAGS = [
    "--dataset=digits",
    "--model=cnn(channels=(8, 16), dense=(16,), batch_norm=True, dropout=0.1)",
    "--augmentations=random_crop(padding=1)",
    "--batch_size=120",
    "--eval_batch_size=100",
    "--eval_every=6",
]


SHORT_SAVES = (
    "-c",
    "import os, sys; from jaxvision.engine import checkpoint; "
    "checkpoint.SAVE_SECONDS = int(os.environ['SAVE_SECONDS']); "
    "from jaxvision.cli import run; sys.exit(run('launch', sys.argv[1:]))",
)


@pytest.fixture
def launch(tmp_path, root):
    """Starts one process, or two that join: a list of processes, their output in files beside the workdir."""
    processes = []

    def start(*flags, num_processes=2, extra=((), ()), environments=(), code=("scripts/launch.py",)):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        num_processes = len(environments) or num_processes
        devices = f"--xla_force_host_platform_device_count={4 // num_processes}"
        environment = {**os.environ, "XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu"}
        started = []
        for place in range(num_processes):
            ours = {**environment, **environments[place]} if environments else environment
            joined = [f"--coordinator=localhost:{port}", f"--num_processes={num_processes}", f"--process_id={place}"]
            words = [
                sys.executable,
                *code,
                *FLAGS,
                *flags,
                *extra[place],
                *joined[: 3 * (num_processes > 1 and not environments)],
            ]
            out = (tmp_path / f"output{len(processes)}").open("w+")
            process = subprocess.Popen(words, cwd=root, env=ours, stdout=out, stderr=subprocess.STDOUT, text=True)
            process.output = out
            started.append(process)
            processes.append(process)
        return started

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.output.close()


def ended(processes, *, seconds=240):
    """Waits for processes: [(exit status, output)]."""
    found = []
    for process in processes:
        process.wait(timeout=seconds)
        process.output.seek(0)
        found.append((process.returncode, process.output.read()))
    return found


def succeeded(processes):
    found = ended(processes)
    assert [status for status, _ in found] == [0] * len(found), "\n".join(text[-3000:] for _, text in found)
    return found


@pytest.mark.parametrize(
    ("mesh", "precision"),
    [("", "f64"), ("fsdp=4", "f64"), *(pytest.param(m, "f32", marks=pytest.mark.slow) for m in ("", "fsdp=4"))],
)
def test_two_processes_train_as_one(launch, tmp_path, precision, mesh):
    flags = [f"--precision={precision}", f"--mesh={mesh}", "--steps=12", "--ema=0.9"]
    together, alone = tmp_path / "together", tmp_path / "alone"
    succeeded(launch(*flags, f"--workdir={together}"))
    succeeded(launch(*flags, f"--workdir={alone}", num_processes=1))
    one, other = (json.loads((place / "report" / "report.json").read_text()) for place in (alone, together))
    assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    assert [row["step"] for row in logs.read_rows(together / "metrics.jsonl")] == [6, 6, 12, 12]
    if precision == "f64":
        assert one["auroc" if "auroc" in one else "loss"] == pytest.approx(other["auroc" if "auroc" in one else "loss"])
        assert one["confusion_matrix"] == other["confusion_matrix"]
        a, b = (jax.tree.leaves(jv.load(place, checkpoint=12).params) for place in (alone, together))
        jax.config.update("jax_enable_x64", False)
        assert a[0].dtype == np.float64
        difference = sum(float(((np.asarray(x) - np.asarray(y)) ** 2).sum()) for x, y in zip(a, b, strict=True))
        assert difference**0.5 <= 1e-9 * sum(float((np.asarray(x) ** 2).sum()) for x in a) ** 0.5


@pytest.mark.parametrize("save_every", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_signal_to_one_process_stops_both_and_they_go_on(launch, tmp_path, save_every):
    flags = ["--steps=400", "--eval_every=200", f"--save_every={save_every}", f"--workdir={tmp_path / 'run'}"]
    processes, deadline = launch(*flags), time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoints/[0-9]*")):
        assert time.monotonic() < deadline and all(p.poll() is None for p in processes)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    found = ended(processes)
    assert [status for status, _ in found] == [143, 143], found
    assert all(
        "stopped and saved at step" in text and "to resume: jaxvision train --workdir=" in text for _, text in found
    )
    stopped = jv.load(tmp_path / "run").step
    first, second = succeeded(launch("--eval_every=200", *flags, f"--steps={stopped + 3}"))
    assert f"resumes at step {stopped}" in first[1] and "resumes" not in second[1]


def test_what_one_process_is_refused_ends_both(launch, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "holiday.txt").touch()
    for status, text in ended(launch(f"--workdir={tmp_path / 'run'}", "--steps=1")):
        lines = [line for line in text.splitlines() if line.startswith("jaxvision: ")]
        assert status == 2 and len(lines) == 1 and "contains files that do not belong to a training run" in lines[0]
    for status, text in ended(launch(f"--workdir={tmp_path / 'new'}", extra=(("--seed=1",), ("--seed=2",)))):
        assert status == 2 and "processes 0 and 1 differ: seed 1 and 2; use the same on all of them" in text
    assert not (tmp_path / "new").exists()


def test_what_is_refused_before_the_data_are_opened_ends_both(launch, tmp_path):
    processes = launch(f"--workdir={tmp_path / 'run'}", extra=(("--steps=1",), ("--steps=0",)))
    for status, text in ended(processes, seconds=60):
        lines = [line for line in text.splitlines() if line.startswith("jaxvision: ")]
        assert status == 2 and len(lines) == 1 and "steps=0 must be at least 1" in lines[0]


def test_a_disk_that_is_full_for_one_ends_both(launch, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system wants root")
    monkeypatch.setenv("SAVE_SECONDS", "15")
    try:
        model = ["--model=mlp(hidden=(800,))", "--steps=60", "--save_every=5", "--eval_every=1000"]
        for status, text in ended(launch(*model, f"--workdir={disk / 'run'}", code=SHORT_SAVES), seconds=120):
            lines = [line for line in text.splitlines() if line.startswith("jaxvision: ")]
            assert status == 2 and "a checkpoint cannot be written to" in lines[-1], text
        assert jv.load(disk / "run").step >= 5
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_lone_process_joins_none(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("joined"))
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    cluster.start()


@pytest.mark.parametrize(
    ("environment", "local_device_ids"),
    [
        ({"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8"}, None),
        ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4"}, [0, 1, 2, 3]),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, None),
    ],
)
def test_a_clusters_launcher_is_recognised(monkeypatch, environment, local_device_ids):
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *places, **options: joined.append((places, options)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cluster.start()
    assert joined == [((None, None, None), {"local_device_ids": local_device_ids, "shutdown_timeout_seconds": 120})]


def test_processes_join_as_under_slurm(launch, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    names = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2", "STEP_NUM_TASKS": "2", "STEP_NUM_NODES": "1"}
    environment = {f"SLURM_{name}": value for name, value in names.items()} | {"JAX_COORDINATOR_PORT": str(port)}
    places = [{**environment, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    first, second = succeeded(launch("--steps=2", f"--workdir={tmp_path / 'run'}", environments=places))
    assert "4 cpu devices of 2 processes" in first[1] and "test accuracy" not in second[1]


def test_several_processes_that_cannot_be_joined_are_refused(launch, tmp_path):
    places = [{"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": str(i)} for i in range(2)]
    for status, text in ended(launch("--steps=2", f"--workdir={tmp_path / 'run'}", environments=places)):
        assert status == 2 and "use --coordinator, --num_processes and --process_id" in text
    alone = launch("--steps=2", "--num_processes=1", f"--workdir={tmp_path / 'run'}", environments=places[:1])
    assert "4 cpu devices\n" in succeeded(alone)[0][1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("localhost:1", None, None), "also need --num_processes and --process_id"),
        ((None, 2, None), "also need --coordinator and --process_id"),
        (("localhost:1", 2, 2), "process_id from 0 to num_processes - 1"),
        (("localhost", 2, 0), "expected host:port of process 0"),
    ],
)
def test_hosts_that_cannot_be_joined_are_refused(given, why):
    with pytest.raises(ValueError, match=why):
        cluster.start(*given)


def test_deterministic_reaches_the_compiler_before_it_starts(root, tmp_path):
    code = (
        "import os, sys; from jaxvision.cli import run; "
        "status = run('launch', sys.argv[1:]); print(status, os.environ['XLA_FLAGS'])"
    )
    words = [*FLAGS, "--steps=1", "--deterministic", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith("0 ") and "--xla_gpu_deterministic_ops=true" in done.stdout
