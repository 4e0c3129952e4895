"""Compare what two checkouts of the package compute: short training runs, array by array, by path.

    python scripts/compare_checkouts.py OLD NEW [--only=PATTERNS] [--python=PYTHON] [--self-check] [--keep]

Each case trains ten steps with either checkout, in processes of their own, on the same data and the same machine. Then
all numbers must be equal bit for bit: the last checkpoint (parameters, model state, optimizer state, averages, key),
the rows of metrics.jsonl except times, the report, and predictions. A case with a tolerance states its cause.
Version 0.1 divides each example's loss by the number of examples, later versions the sum of the gradients. XLA rounds
the two otherwise in some programs. Those cases are compared with a copy of the old checkout in which this one division
stands where it stands now, and again bit for bit: so nothing else differs.
The script imports neither checkout. It exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
Flags = Mapping[str, Any]

TIMES = ("seconds", "waiting", "data_wait_fraction")  # names with these endings are excluded from all rows
NUM_SHOWN = 5  # failures printed per case
TIMEOUT_SECONDS = 900  # of one process
SMALL = "cnn(channels=(8, 8), dense=16)"
NORMED = "cnn(channels=(8, 8), dense=16, batch_norm=True)"
PHOTOS = "folder(path='data/photos', image_size=16)"
PAIRS = "folder(path='data/pairs', image_size=16)"
STREAM = "folder(path='data/photos', image_size=16, stream=True, random_crop=(0.3, 1.0))"
IMAGES = "synthetic(num_classes=4, num_examples=240, image_size=16)"
TAGS = "table(path='data/tags.csv', image='file', target='tags', delimiter='|', image_size=16)"
SCORES = "table(path='data/scores.csv', image='file', target='score', image_size=16)"
SERIES = "series(path='data/series.csv', column='value', window=6)"
SHARED: Flags = {
    "model": SMALL,
    "dataset": IMAGES,
    "steps": 10,
    "eval_every": 5,
    "batch_size": 16,
    "eval_batch_size": 64,
}
MEAN = (
    "a mean's gradient may be the sum over examples divided by their number; the two round alike only if the "
    "number is a power of two"
)


# ── the cases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Case:
    """A run: its flags in addition to SHARED, and those that differ in the new checkout.

    `devices` counts fake devices. `inputs` is what both predict, if anything; the cases cover all ways to predict.
    `after` names the case whose workdir the flags use, as RUNS/name. `tolerance` is relative to the norm of each array
    and needs a `cause`. With `is_rounded`, the old side is the copy with its division moved (`move_division`).
    """

    name: str
    flags: Flags
    new: Flags = field(default_factory=dict)
    devices: int = 1
    inputs: str = ""
    after: str = ""
    tolerance: float = 0.0
    cause: str = ""
    is_rounded: bool = False

    def __post_init__(self) -> None:
        if (self.tolerance > 0) != bool(self.cause):
            raise ValueError(f"the case {self.name!r} needs a tolerance and its cause, or neither")
        if self.is_rounded and self.after:
            raise ValueError(f"the case {self.name!r} starts from the workdir of another case, which no copy has")


def odd(name: str, flags: Flags, **rest: Any) -> Case:
    """Return a case in double precision whose batch size is not a power of two."""
    flags = {"batch_size": 12, "precision": "f64", **flags}
    return Case(name, flags, tolerance=1e-10, cause=MEAN, **rest)


def predicting(name: str, flags: Flags, *, inputs: str = "data/inputs", **rest: Any) -> Case:
    """Return a case that predicts images or other inputs after training."""
    return Case(name, flags, inputs=inputs, **rest)


# If the new checkout renames an option, the case states it: Case("focal", {"task": "multiclass(focal=2.0)"},
# new={"task": "multiclass(loss=focal(gamma=2.0))"}). Other flags stay those of the old one.
TASKS = (
    predicting("cnn", {"model": SMALL, "dataset": "digits"}),
    Case(
        "weights_smoothing",
        {
            "dataset": PHOTOS,
            "task": "multiclass(class_weights='balanced', label_smoothing=0.1, logit_adjustment=0.5)",
            "optimizer": "adagrad",
        },
        new={
            "task": "multiclass(loss=cross_entropy(class_weights='balanced', label_smoothing=0.1,logit_adjustment=0.5))"
        },
    ),
    Case(
        "focal",
        {"dataset": PHOTOS, "task": "multiclass(focal=2.0)", "schedule": "step"},
        new={"task": "multiclass(loss=focal(gamma=2.0))"},
    ),
    predicting(
        "binary",
        {"dataset": PAIRS, "task": "binary(threshold=('recall', 0.9), class_weights='effective', focal=1.0)"},
        new={"task": "binary(threshold=('recall', 0.9), loss=focal(gamma=1.0, class_weights='effective'))"},
    ),
    predicting(
        "multilabel",
        {"dataset": TAGS, "task": "multilabel(threshold=('precision', 0.5), positive_weight='balanced', focal=1.5)"},
        new={"task": "multilabel(threshold=('precision', 0.5), loss=focal(gamma=1.5, positive_weight='balanced'))"},
    ),
    predicting("regression", {"dataset": SCORES, "task": "regression(loss='huber', delta=0.5)"}),
    predicting(
        "lstm",
        {"model": "lstm(hidden=(8, 8), dense=(4,), dropout=0.1)", "dataset": SERIES, "task": "regression"},
        inputs="data/series.csv",
    ),
    Case(
        "gan",
        {
            "model": "gan(hidden=16)",
            "dataset": "digits",
            "task": "gan(smoothing=0.1)",
            "optimizer": "by_part(ratio=0.5)",
            "ema": 0.9,
        },
        is_rounded=True,
    ),
    Case(
        "dcgan",
        {"model": "dcgan(width=4, dropout=0.1)", "dataset": "digits", "task": "gan", "optimizer": "by_part"},
        is_rounded=True,
    ),
)
MODELS = (
    predicting("resnet20", {"model": "resnet20", "optimizer": "sgd(weight_decay=1e-4)"}),
    Case("resnet20_remat", {"model": "resnet20", "optimizer": "sgd(nesterov=True)", "remat": True}),
    predicting(
        "vit_layer_decay",
        {
            "model": "vit_tiny_patch16(dropout=0.1, drop_path=0.1)",
            "optimizer": "adamw",
            "layer_decay": 0.7,
            "schedule": "cosine(warmup=0.3)",
            "clip_norm": 1.0,
        },
        is_rounded=True,
    ),
    predicting(
        "airbench94",
        {
            "model": "airbench94(channels=(16, 32, 32))",
            "optimizer": "muon_sgd",
            "schedule": "linear",
            "augment": "alternating_flip, crop(padding=2, mode='reflect')",
            "views": "mirrored_shifted",
        },
        tolerance=2e-7,
        cause="evaluation makes floats of pixels before the shifts of test-time augmentation, so that tasks get 0 to 1 "
        "and XLA rounds otherwise; equal bit for bit without those two lines",
    ),
)
TRAINING = (
    Case("mixup_dropout", {"model": SMALL[:-1] + ", dropout=0.3)", "augment": "flip, mixup"}),
    Case(
        "augments",
        {
            "dataset": PHOTOS,
            "augment": "resize_crop, rotate, color_jitter, blur, random_erasing, cutmix",
            "optimizer": "muon",
        },
        is_rounded=True,
    ),
    Case(
        "ema_accumulate",
        {"model": NORMED, "ema": 0.9, "accumulate": 2, "schedule": "one_cycle"},
        is_rounded=True,
    ),
    Case("balanced_fold", {"dataset": PHOTOS, "sampling": "balanced", "fold": "2/5", "optimizer": "lion"}),
    predicting("bf16", {"model": NORMED, "precision": "bf16", "optimizer": "lamb"}, is_rounded=True),
    predicting(
        "f64", {"model": NORMED, "precision": "f64", "on_nonfinite": "skip", "optimizer": "rmsprop"}, is_rounded=True
    ),
    predicting("streamed_views", {"dataset": STREAM, "views": "mirrored"}),
)
TRANSFER = (
    Case("start", {"model": NORMED, "dataset": PHOTOS}),
    Case(
        "freeze",
        {"model": NORMED, "dataset": PHOTOS, "init_from": "RUNS/start", "freeze": "conv1, norm1", "seed": 1},
        after="start",
    ),
    predicting(
        "cache_features",
        {
            "model": NORMED,
            "dataset": PHOTOS,
            "init_from": "RUNS/start",
            "freeze": "backbone",
            "cache_features": True,
            "seed": 1,
        },
        after="start",
    ),
)
DEVICES = (
    predicting("data4", {"model": NORMED, "augment": "flip, mixup"}, devices=4),
    Case("fsdp4", {"model": NORMED, "mesh": "fsdp=4", "ema": 0.9}, devices=4),
    Case("data2_fsdp2", {"model": NORMED, "mesh": "data=2,fsdp=2", "accumulate": 2}, devices=4, is_rounded=True),
    Case("pmap", {"model": NORMED, "parallel": "pmap", "augment": "crop, mixup"}, devices=4),
)
ODD = (
    odd("odd_accumulate", {"model": NORMED, "batch_size": 6, "accumulate": 3}),
    odd(
        "odd_weights",
        {"dataset": PHOTOS, "task": "multiclass(class_weights='balanced', label_smoothing=0.1)"},
        new={"task": "multiclass(loss=cross_entropy(class_weights='balanced', label_smoothing=0.1))"},
    ),
    odd("odd_multilabel", {"dataset": TAGS, "task": "multilabel"}),
    odd("odd_regression", {"dataset": SCORES, "task": "regression(loss='absolute')"}),
    odd("odd_fsdp", {"mesh": "data=2,fsdp=2"}, devices=4),
    odd("odd_pmap", {"parallel": "pmap"}, devices=4, is_rounded=True),
)
CASES = (*TASKS, *MODELS, *TRAINING, *TRANSFER, *DEVICES, *ODD)


def select(patterns: str, cases: Sequence[Case] = CASES) -> list[Case]:
    """Return the cases whose names match one of the patterns, preceded by the cases that they need."""
    chosen = [case for case in cases if any(fnmatch.fnmatch(case.name, each) for each in patterns.split(","))]
    needed = {case.after for case in chosen} | {case.name for case in chosen}
    return [case for case in cases if case.name in needed]


# ── comparing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Comparison(NamedTuple):
    """The result of a comparison: the number of arrays, the largest relative difference, and the failures in words."""

    num_arrays: int
    largest: float
    failures: list[str]

    def __str__(self) -> str:
        found = f"largest relative difference {self.largest:.3g}" if self.largest else "equal bit for bit"
        return f"{self.num_arrays:4} arrays  {found}"


def flatten(value: Any, path: str) -> Arrays:
    """Return the leaves of dicts and lists as arrays by path; None is a leaf."""
    if isinstance(value, Mapping):
        children = {f"{path}/{name}": child for name, child in value.items()}
    elif isinstance(value, list | tuple):
        children = {f"{path}/{index}": child for index, child in enumerate(value)}
    else:
        return {path: np.asarray("None" if value is None else value)}
    return {name: leaf for at, child in children.items() for name, leaf in flatten(child, at).items()}


def difference(old: np.ndarray, new: np.ndarray) -> float:
    """Return the norm of the difference relative to the norm of the old array.

    It is 0 only for identical bits, and infinite for different types and shapes and for NaN.
    """
    if old.dtype != new.dtype or old.shape != new.shape:
        return math.inf
    if old.tobytes() == new.tobytes():
        return 0.0
    if old.dtype.kind != "f":
        return math.inf
    gap = float(np.linalg.norm((new.astype(np.float64) - old.astype(np.float64)).ravel()))
    norm = float(np.linalg.norm(old.astype(np.float64).ravel()))
    if not math.isfinite(gap) or (gap and not norm):
        return math.inf
    return max(gap / norm if norm else 0.0, float(np.finfo(np.float64).tiny))


ADDED = (
    "headline",
    "checkpoint",
    "num_in_split",
    "tta",
)  # facts that reports of version 0.1 lack; everything else must be on both sides


def is_added(path: str) -> bool:
    """Return whether a path is one of the facts that newer reports have in addition."""
    return path.startswith("report") and (path.rpartition("/")[2] in ADDED or "/calibration/" in path)


def compare(old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], *, tolerance: float = 0.0) -> Comparison:
    """Compare arrays by path; a path that is missing on one side is a failure."""
    failures = [f"missing in new: {path}" for path in sorted(old.keys() - new.keys())]
    failures += [f"only in new: {path}" for path in sorted(new.keys() - old.keys()) if not is_added(path)]
    largest = 0.0
    for path in sorted(old.keys() & new.keys()):
        found = difference(old[path], new[path])
        largest = max(largest, found)
        if found > tolerance:
            pair = f"{_shown(old[path])} in old, {_shown(new[path])} in new"
            failures.append(f"differs by {found:.3g}: {path} ({pair})")
    if not old and not new:
        failures.append("there is nothing to compare")
    return Comparison(len(old.keys() | new.keys()), largest, failures)


def _shown(array: np.ndarray) -> str:
    return f"{array.item()!r}" if array.size == 1 else f"{array.dtype}{list(array.shape)}"


def perturb(arrays: Mapping[str, np.ndarray], path: str, *, tolerance: float = 0.0) -> Arrays:
    """Return the arrays with one number changed by twice the tolerance, and by at least one ulp."""
    changed = arrays[path].copy()
    place = int(np.abs(changed).argmax())
    value = changed.flat[place]
    changed.flat[place] += 2 * tolerance * float(np.linalg.norm(changed.ravel()))
    if changed.flat[place] == value:
        changed.flat[place] = np.nextafter(value, np.inf)
    return {**arrays, path: changed}


def check_itself(arrays: Mapping[str, np.ndarray], *, tolerance: float = 0.0) -> list[str]:
    """Return the modifications of arrays that a comparison fails to detect: a change, a loss, an addition."""
    floats = [path for path, array in arrays.items() if path.startswith("model/params/") and array.dtype.kind == "f"]
    if not floats:
        return ["self-check: there are no parameters"]
    path = floats[0]
    tampered = {
        "a changed array": perturb(arrays, path, tolerance=tolerance),
        "a missing path": {name: array for name, array in arrays.items() if name != path},
        "an extra path": {**arrays, f"{path}/extra": arrays[path]},
    }
    found = {what: compare(arrays, other, tolerance=tolerance).failures for what, other in tampered.items()}
    return [f"self-check: {what} is not seen" for what, failures in found.items() if len(failures) != 1]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_checkpoint(folder: Path) -> Arrays:
    """Return all arrays of the newest checkpoint in a folder in their own precision, for any number of devices."""
    import jax
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    newest = max((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    arrays = flatten(int(newest.name), "checkpoint/step")
    with ocp.PyTreeCheckpointer() as reader:
        for item in sorted(path.parent for path in newest.glob("*/_METADATA")):
            shapes = reader.metadata(item.absolute()).item_metadata.tree
            wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            arrays |= flatten(reader.restore(item.absolute(), restore_args=wanted), item.name)
    return arrays


def read_rows(file: Path) -> Arrays:
    """Return the values in the rows of metrics.jsonl except times."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return flatten([{k: v for k, v in row.items() if not k.endswith(TIMES)} for row in rows], "metrics")


def read_reports(workdir: Path) -> Arrays:
    """Return the content of the JSON and CSV files of reports and thresholds."""
    arrays: Arrays = {}
    for file in sorted([*workdir.glob("report*/*.json"), *workdir.glob("thresholds.json")]):
        arrays |= flatten(json.loads(file.read_text()), str(file.relative_to(workdir)))
    for file in sorted(workdir.glob("report*/*.csv")):
        rows = [[_number(value) for value in row] for row in csv.reader(file.read_text().splitlines())]
        arrays |= flatten(rows, str(file.relative_to(workdir)))
    return arrays


GENERATE = """
import sys
import numpy as np
import jaxvision as jv

trained = jv.load(sys.argv[1])
shape = trained.run.signature.preprocessing
pixels = np.random.default_rng(0).integers(0, 256, (8, *shape.size, shape.channels)).astype(np.uint8)
np.save(sys.argv[2], trained.predict_step(trained.params, trained.model_state, {"inputs": pixels}))
"""  # the pictures of a report are drawn, and layouts change


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


# ── running ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Side(NamedTuple):
    """A checkout, its name, the Python that runs it, the folder that it runs in, and the flags of cases if others."""

    name: str
    checkout: Path
    python: str
    root: Path
    flags: Mapping[str, Flags] = {}

    def run(self, words: Sequence[str], *, devices: int = 1) -> str:
        """Run Python with the checkout on its path and return its output. Raises RuntimeError if it fails."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("JAX", "XLA_"))}
        env |= {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu"),
            "JAXVISION_CACHE": str(self.root / f"{self.name}-cache"),
            "PYTHONPATH": str(self.checkout),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
        command = [self.python, *words]
        done = subprocess.run(
            command, cwd=self.root, env=env, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
        if done.returncode:
            last = " / ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
            raise RuntimeError(f"{self.name} ends with {done.returncode}: {last}")
        return done.stdout

    def words(self, verb: str) -> list[str]:
        """Return the words that run a command of the package: its script, or the package itself if there is none."""
        script = self.checkout / "scripts" / f"{verb}.py"
        return [str(script)] if script.exists() else ["-m", "jaxvision", verb]

    def require_own(self) -> None:
        """Raise RuntimeError if the imported package is not that of the checkout."""
        found = Path(self.run(["-c", "import jaxvision; print(jaxvision.__file__)"]).split()[-1])
        if self.checkout not in found.parents:
            raise RuntimeError(f"{self.name}: Python imports {found}, not the package of {self.checkout}")


def run_case(case: Case, side: Side) -> Arrays:
    """Run a case with one checkout and return all that it computed."""
    flags = side.flags.get(case.name) or flags_of(case, is_new=side.name == "new")
    values = {name: str(value).replace("RUNS", side.name) for name, value in flags.items()}
    workdir = Path(side.name) / case.name
    given = [f"--{name}={value}" for name, value in values.items()]
    side.run([*side.words("launch"), *given, f"--workdir={workdir}"], devices=case.devices)
    folder = side.root / workdir
    if (folder / "temperature.json").exists():  # compare the probabilities of the network, not the calibrated ones
        side.run([*side.words("evaluate"), f"--workdir={workdir}", "--calibrate=False"], devices=case.devices)
    arrays = read_checkpoint(folder / "checkpoints") | read_rows(folder / "metrics.jsonl") | read_reports(folder)
    if case.inputs:
        raw = ["--calibrate=False"] if (side.checkout / "jaxvision" / "temperature_file.py").exists() else []
        words = [*side.words("predict"), f"--workdir={workdir}", "--format=json", "--top=100", *raw, case.inputs]
        arrays |= flatten(json.loads(side.run(words, devices=case.devices)), "predictions")
    if (folder / "samples").exists():
        file = workdir / "generated.npy"
        side.run(["-c", GENERATE, str(workdir), str(file)], devices=case.devices)
        arrays["generated"] = np.load(side.root / file)
    return arrays if side.name == "new" else rename(arrays)


RENAMED = {  # parts of the paths of metrics, reports and predictions, since version 0.1
    "all_tags_right": "subset_accuracy",
    "class_shares": "class_fractions",
    "least_class_share": "min_class_fraction",
    "made_accuracy": "fake_accuracy",
    "tag": "label",
    "tag frequencies": "label frequencies",
    "tags": "labels",
    "views": "tta",
}
VALUES = {"one": "none", "mirrored": "flip", "mirrored_shifted": "flip_shift"}  # of views


def rename(arrays: Arrays) -> Arrays:
    """Return what version 0.1 computed under the names that metrics, reports and predictions have since."""
    renamed = {}
    for path, array in arrays.items():
        parts = path.split("/")
        if parts[0] == "thresholds.json":  # now a list, one entry for each checkpoint
            parts[1:1] = ["fitted", "0"]
        if parts[-1] == "views":
            array = np.asarray(VALUES[str(array)])
        is_ours = parts[0] in ("metrics", "predictions", "thresholds.json") or parts[0].startswith("report")
        renamed["/".join(RENAMED.get(part, part) for part in parts) if is_ours else path] = array
    return renamed


def flags_of(case: Case, *, is_new: bool) -> Flags:
    """Return the flags of a case under the names of version 0.1, except those that a case states for the new one."""
    return {**SHARED, **case.flags, **(case.new if is_new else {})}


UPGRADE = """
import json, sys
try:
    from jaxvision.upgrades import upgrade
except ImportError:
    upgrade = dict
print(json.dumps({name: upgrade(flags) for name, flags in json.loads(sys.argv[1]).items()}))
"""


def upgraded_flags(cases: Sequence[Case], side: Side) -> dict[str, Flags]:
    """Return the flags of all cases under the names of the new checkout, by its own table."""
    flags = {case.name: flags_of(case, is_new=True) for case in cases}
    return json.loads(side.run(["-c", UPGRADE, json.dumps(flags)]).splitlines()[-1])


DIVISION = {  # in step.py of version 0.1: what moves the division by the number of examples behind the sums
    '(value * batch["mask"]).sum() / count for': '(value * batch["mask"]).sum() for',
    "gradients, means = over_devices((gradients, means))\n": (
        "gradients, means = over_devices((gradients, means))\n"
        "        gradients = jax.tree.map(lambda leaf: (leaf / count).astype(leaf.dtype), gradients)\n"
        "        means = {name: value / count for name, value in means.items()}\n"
    ),
}


def move_division(old: Path, folder: Path) -> Path:
    """Copy a checkout of version 0.1 with its division by the number of examples moved. ValueError for others."""
    shutil.copytree(old, folder, ignore=shutil.ignore_patterns(".git", "__pycache__", "workdirs"))
    file = folder / "jaxvision" / "step.py"
    text = file.read_text() if file.exists() else ""
    for before, after in DIVISION.items():
        if text.count(before) != 1:
            raise ValueError(f"{old} is not version 0.1: {before.strip()!r} is not in its jaxvision/step.py")
        text = text.replace(before, after)
    file.write_text(text)
    return folder


def compare_case(case: Case, sides: Sequence[Side], *, self_check: bool) -> Comparison:
    """Run a case with both checkouts at once and compare; a run that ends with an error is a failure."""
    sides = [side for side in sides if side.name != ("old" if case.is_rounded else "moved")]
    with ThreadPoolExecutor(len(sides)) as pool:
        running = [pool.submit(run_case, case, side) for side in sides]
    errors = [str(error) for each in running if (error := each.exception()) is not None]
    if errors:
        return Comparison(0, math.inf, errors)
    old, new = (each.result() for each in running)
    found = compare(old, new, tolerance=case.tolerance)
    unseen = check_itself(old, tolerance=case.tolerance) if self_check else []
    return found._replace(failures=[*found.failures, *unseen])


# ── the data ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_data(folder: Path) -> None:
    """Write the data of the cases: class folders, tables with images, a series, and images to predict."""
    rng = np.random.default_rng(0)
    for name, counts in {"photos": (40, 28, 16), "pairs": (48, 28), "inputs": (5,)}.items():
        for index, count in enumerate(counts):
            place = folder / name if name == "inputs" else folder / name / f"class{index}"
            for number in range(count):
                _save_image(place / f"{number:02}.png", rng, level=60 + 60 * index)
    rows = [(f"images/{number:02}.png", number % 2, number % 3, number) for number in range(80)]
    for file, is_light, _, number in rows:
        _save_image(folder / file, rng, level=70 + 90 * is_light + number / 4)
    tags = [(file, "|".join(["light"] * one + ["warm"] * (two == 1) or ["plain"])) for file, one, two, _ in rows]
    scores = [(file, f"{0.5 * one + number / 31:.4f}") for file, one, _, number in rows]
    steps = np.arange(120)
    series = [(f"day {step}", f"{10 + step / 9 + 3 * math.sin(step / 4):.4f}") for step in steps]
    for name, head, table in (
        ("tags", ("file", "tags"), tags),
        ("scores", ("file", "score"), scores),
        ("series", ("day", "value"), series),
    ):
        with (folder / f"{name}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([head, *table])


def _save_image(file: Path, rng: np.random.Generator, *, level: float) -> None:
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.normal(level, 30, (20, 24, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file)


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def compare_all(cases: Sequence[Case], sides: Sequence[Side], *, self_check: bool, keep: bool) -> int:
    """Compare all cases, print a line for each, and return the number of failures."""
    num_failed, needed = 0, {case.after for case in cases}
    rounded = ", ".join(case.name for case in cases if case.is_rounded)
    if rounded:
        print(f"compared with the old checkout after its division by the number of examples was moved: {rounded}")
    for cause in sorted({case.cause for case in cases} - {""}):
        print(f"within a tolerance: {', '.join(case.name for case in cases if case.cause == cause)}, as {cause}")
    for case in cases:
        began = time.perf_counter()
        found = compare_case(case, sides, self_check=self_check)
        num_failed += bool(found.failures)
        limit = f" (within {case.tolerance:g})" if case.tolerance else ""
        result = "FAIL" if found.failures else "ok"
        print(f"{result:4}  {case.name:20}  {found}{limit}  {time.perf_counter() - began:.1f} s")
        for failure in found.failures[:NUM_SHOWN]:
            print(f"      {failure}")
        if len(found.failures) > NUM_SHOWN:
            print(f"      and {len(found.failures) - NUM_SHOWN} more")
        sys.stdout.flush()
        for side in sides:
            if not keep and case.name not in needed:
                shutil.rmtree(side.root / side.name / case.name, ignore_errors=True)
    return num_failed


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout")
    parser.add_argument("new", type=Path, help="the checkout that must compute the same")
    parser.add_argument("--only", default="*", metavar="PATTERNS", help="cases to run, as 'odd_*,gan'")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs both")
    parser.add_argument(
        "--self-check", action="store_true", help="check that each comparison detects a change of one ulp"
    )
    parser.add_argument("--keep", action="store_true", help="keep the runs and print their folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Compare two checkouts and return the exit status."""
    values = parse(argv)
    cases = select(values.only)
    if not cases:
        print(f"no case matches {values.only!r}; there are {', '.join(case.name for case in CASES)}", file=sys.stderr)
        return 2
    root = Path(tempfile.mkdtemp(prefix="compare-checkouts-"))
    try:
        make_data(root / "data")
        places = {"old": values.old.resolve(), "new": values.new.resolve()}
        if any(case.is_rounded for case in cases):
            places = {"moved": move_division(places["old"], root / "moved-checkout"), **places}
        sides = [Side(name, place, values.python, root) for name, place in places.items()]
        for side in sides:
            side.require_own()
        sides[-1] = sides[-1]._replace(flags=upgraded_flags(cases, sides[-1]))
        num_failed = compare_all(cases, sides, self_check=values.self_check, keep=values.keep)
    finally:
        if values.keep:
            print(f"the runs are in {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    print(f"{len(cases) - num_failed} of {len(cases)} cases compute the same")
    return int(num_failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
