"""Compare `jaxvision finetune` with its linear head, and with a grid of 12 that a sweep chooses from.

    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=probe
    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=finetune
    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=rival
    python scripts/compare_finetuning.py --out=finetuning.jsonl --part=table

FOLDER has clothing/, cats_dogs/ and imagenette/ with class folders in train/ and others. Validation is cut from train.
Each seed draws its own training images and validation split. Rows that are already in the file are not computed again.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

import jaxvision as jv
from jaxvision import data as datas
from jaxvision import features, linear_head, splits
from jaxvision.config import Config
from jaxvision.datasets.subsets import few
from jaxvision.finetune import RECIPE

DATA = flags.DEFINE_string("data", "data", "folder of the data")
OUT = flags.DEFINE_string("out", "finetuning.jsonl", "file with a line for each run")
PART = flags.DEFINE_enum("part", "table", ["probe", "finetune", "rival", "table"], "what to run")
SETS = flags.DEFINE_list("sets", ["clothing", "cats_dogs", "imagenette"], "names of folders")
PER_CLASS = flags.DEFINE_list("per_class", ["10", "40"], "numbers of training images of each class")
SEEDS = flags.DEFINE_integer("seeds", 3, "number of seeds")
SIZE = flags.DEFINE_integer("image_size", 160, "height and width of the images, in pixels")
MINUTES = flags.DEFINE_float("minutes", 10.0, "time of one finetune")

MODEL = "tf_efficientnet_lite0"
RIVAL = Config(model=MODEL, init_from="pretrained", optimizer="adamw", augmentations="horizontal_flip", epochs=10)
GRID: dict[str, Any] = {
    "learning_rate": [1e-4, 3e-4, 1e-3],
    "layer_decay": [0.7, 1.0],
    "freeze": ["", "batch_norm"],
}


def folder_of(name: str, temporary: Path) -> str:
    """Make the folder of a set with train/ and test/, where all that is beside train is test; return its path."""
    place = temporary / name
    if not place.exists():
        place.mkdir()
        source = Path(DATA.value).resolve() / name
        (place / "train").symlink_to(source / "train")
        for part in sorted(source.iterdir()):
            if part.name != "train" and part.is_dir():
                for kind in sorted(part.iterdir()):
                    (place / "test" / kind.name).mkdir(parents=True, exist_ok=True)
                    (place / "test" / kind.name / part.name).symlink_to(kind)
    return str(place)


def spec_of(folder: str, per_class: int | None, size: int) -> str:
    """Return the spec of a folder with a number of training images of each class, all for None."""
    chosen = "" if per_class is None else f", per_class={per_class}"
    return f"folder(path={folder!r}, image_size={size}{chosen})"


def probes(name: str, temporary: Path) -> Iterator[dict[str, Any]]:
    """Yield the figures of linear heads, from the features of all images, which are computed once."""
    backbone = features.open_backbone(MODEL)
    config = Config(dataset=spec_of(folder_of(name, temporary), None, SIZE.value), validation_fraction=0.0)
    data = datas.open_dataset(config, preprocessing=backbone.preprocessing)
    pooled = features.pooled_features(backbone, data)
    test = pooled["test"], datas.splits_of(data)["test"].targets
    positions = jv.Split.of(np.arange(len(data.train)), data.train.targets, kind="multiclass")
    for per_class in map(int, PER_CLASS.value):
        for seed in range(SEEDS.value):
            drawn = few(positions, per_class, seed=seed)
            train, validation = splits.holdout(drawn, RECIPE.validation_fraction, seed=seed)
            examples = [
                (pooled["train"][part.read(np.arange(len(part)))], part.targets) for part in (train, validation)
            ]
            head = linear_head.fit_and_choose(examples[0], examples[1], len(data.classes))
            figures = {"accuracy": linear_head.accuracy(head, test), "loss": linear_head.log_loss(head, test)}
            yield {"per_class": per_class, "seed": seed, "test": figures, "strength": head.strength}


def finetuned(name: str, per_class: int, seed: int, temporary: Path) -> dict[str, Any]:
    """Run finetune, and return the figures of both of its stages."""
    began = time.monotonic()
    found = jv.finetune(
        spec_of(folder_of(name, temporary), per_class, SIZE.value),
        model=MODEL,
        minutes=MINUTES.value,
        seed=seed,
        workdir=temporary / f"{name}-{per_class}-{seed}",
    )
    won = found.probe if found.winner == "probe" else found.finetuned
    stages = {"probe": found.probe._asdict(), "finetuned": found.finetuned._asdict()}
    return {**stages, "winner": found.winner, "test": won.test, "seconds": time.monotonic() - began}


def rival(name: str, per_class: int, seed: int, temporary: Path) -> dict[str, Any]:
    """Run the sweep, and return the figures on test of the trial that is best on validation."""
    began = time.monotonic()
    config = RIVAL.replace(
        dataset=spec_of(folder_of(name, temporary), per_class, SIZE.value),
        validation_fraction=RECIPE.validation_fraction,
        batch_size=16,
        seed=seed,
        split_seed=seed,
    )
    swept = jv.sweep(config, GRID, workdir=temporary / f"rival-{name}-{per_class}-{seed}")
    chosen = swept.workdir / str(swept.rows[0]["trials"][0])
    report = jv.evaluate(chosen)
    figures = {"accuracy": report["accuracy"], "loss": report["loss"]}
    return {"test": figures, "setting": swept.rows[0]["setting"], "seconds": time.monotonic() - began}


def table(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table: the accuracy on test, mean and deviation over seeds, by set and part."""
    found: dict[Any, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        row = found[line["set"], line["per_class"], line["image_size"]]
        row[line["part"]].append(line["test"]["accuracy"])
        if line["part"] == "finetune":
            row["its head"].append(line["probe"]["test"]["accuracy"])
            row["its last step"].append(line["finetuned"]["test"]["accuracy"])
            row["minutes"].append(line["seconds"] / 60)
    columns = ("probe", "its head", "its last step", "finetune", "minutes", "rival")
    text = [f"| set | per class | pixels | {' | '.join(columns)} |", "|---" * (len(columns) + 3) + "|"]
    for (name, per_class, size), row in sorted(found.items()):
        cells = [_cell(row[column]) for column in columns]
        text.append(f"| {name} | {per_class} | {size} | {' | '.join(cells)} |")
    return "\n".join(text)


def _cell(values: list[float]) -> str:
    """Return mean, deviation and number of values."""
    if not values:
        return ""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {deviation:.3f} ({len(values)})"


def main(words: list[str]) -> None:
    if len(words) > 1:
        raise app.UsageError(f"unexpected arguments {words[1:]}")
    path = Path(OUT.value)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("part", "set", "per_class", "seed", "image_size")
    done = {tuple(line[key] for key in keys) for line in lines}

    def add(row: dict[str, Any]) -> None:
        lines.append(row)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({key: row[key] for key in (*keys, "test")}, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        if PART.value == "probe":
            for name in SETS.value:
                for row in probes(name, Path(temporary)):
                    row = {"part": "probe", "set": name, "image_size": SIZE.value, **row}
                    if tuple(row[key] for key in keys) not in done:
                        add(row)
        elif PART.value != "table":
            compute = {"finetune": finetuned, "rival": rival}[PART.value]
            for seed in range(SEEDS.value):
                for name in SETS.value:
                    for per_class in map(int, PER_CLASS.value):
                        key = (PART.value, name, per_class, seed, SIZE.value)
                        if key not in done:
                            add(
                                {**dict(zip(keys, key, strict=True)), **compute(name, per_class, seed, Path(temporary))}
                            )
    print(table(lines))


if __name__ == "__main__":
    app.run(main)
