"""Full, read-only, limited and missing disks: one line, status 2, and earlier checkpoints stay intact."""

import os
import shutil
import subprocess
import sys
import time

import pytest

import jaxvision as jv
from jaxvision.engine import logs

FLAGS = [
    "--dataset=synthetic(num_examples=100, num_classes=3, image_size=32)",
    "--model=mlp(hidden=(40,))",
    "--batch_size=20",
    "--eval_every=10",
    "--save_every=5",
]


@pytest.fixture
def disk(tmp_path):
    """A file system of 8 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], capture_output=True)


@pytest.fixture
def launch(root, tmp_path):
    """Starts a run; gives its process."""

    started = []

    def start(workdir, *flags, before=()):
        words = [*before, sys.executable, "scripts/launch.py", *FLAGS, f"--workdir={workdir}", *flags]
        environment = {**os.environ, "JAXVISION_CACHE": str(tmp_path / "cache")}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(words, cwd=root, env=environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def fill(disk):
    with (disk / "photos").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


def saved(workdir):
    folder = workdir / "checkpoints"
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def wait_for_saves(process, workdir, count=2):
    deadline = time.monotonic() + 120
    while len(saved(workdir)) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def told(process, *words):
    """Waits for a run that fails: one line that holds those words, and status 2."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and errors.count("\n") == 1 and errors.startswith("jaxvision: "), errors
    assert all(word in errors for word in words), errors


def test_a_disk_that_gets_full(disk, launch):
    process = launch(disk / "run", "--steps=3000")
    wait_for_saves(process, disk / "run")
    fill(disk)
    told(process, "No space left on device", str(disk / "run"))
    steps = saved(disk / "run")
    assert [jv.load(disk / "run", checkpoint=step).step for step in steps] == steps
    (disk / "photos").unlink()
    resumed = launch(disk / "run", f"--steps={steps[-1] + 10}")
    assert resumed.communicate(timeout=120)[1].count("\n") == 0 and resumed.returncode == 0
    assert not list((disk / "run" / "checkpoints").glob("*tmp*"))
    reported = [row["step"] for row in logs.read_rows(disk / "run" / "metrics.jsonl") if row["split"] == "train"]
    assert reported == sorted(set(reported)) and reported[-1] == steps[-1] + 10


def test_a_disk_that_is_full_from_the_start(disk, launch):
    fill(disk)
    told(launch(disk / "run", "--steps=10"), "No space left on device", str(disk / "run"))


def test_a_workdir_that_is_read_only(disk, launch):
    assert launch(disk / "run", "--steps=10").wait(timeout=120) == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert all(jv.load(disk / "run", checkpoint=step).step == step for step in saved(disk / "run"))
    told(launch(disk / "run", "--steps=3000"), "Read-only file system", str(disk / "run"))
    told(launch(disk / "new", "--steps=10"), "Read-only file system", str(disk / "new"))


def test_a_file_system_that_goes_away(disk, launch):
    process = launch(disk / "run", "--steps=3000")
    wait_for_saves(process, disk / "run")
    subprocess.run(["umount", "-l", disk], check=True)
    told(process, str(disk / "run"))


def test_files_that_may_not_grow_so_large(tmp_path, launch):
    limited = ("bash", "-c", 'ulimit -f 200; exec "$@"', "bash")  # blocks of 1,024 bytes
    told(launch(tmp_path / "run", "--steps=20", before=limited), "File too large", "complete checkpoints: none")


def test_temporary_folders_of_a_killed_save_are_removed(tmp_path):
    config = jv.Config(dataset=FLAGS[0].partition("=")[2], model="mlp", batch_size=20, steps=4, eval_every=2)
    run = jv.train(config, workdir=tmp_path / "run")
    left = run.workdir / "checkpoints" / "3.orbax-checkpoint-tmp"
    shutil.copytree(run.workdir / "checkpoints" / "2", left)
    jv.train(config.replace(steps=6), workdir=run.workdir)
    assert not left.exists()
