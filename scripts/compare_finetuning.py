"""Compare `jaxvision finetune` with its linear head, and with a grid of 12 that a sweep chooses from.

    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=probe
    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=finetune
    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=rival
    python scripts/compare_finetuning.py --data=FOLDER --out=finetuning.jsonl --part=scratch
    python scripts/compare_finetuning.py --out=finetuning.jsonl --part=table

FOLDER has clothing/, cats_dogs/ and imagenette/ with class folders in train/ and others, and
fashion_products/styles.csv; CIFAR-10 comes from the default data_dir. Validation is cut from train. Each seed draws its
own training images and validation split. Rows that are already in the file are not computed again.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image
from script_flags import parse, require_no_words

import jaxvision as jv
from jaxvision import data as datas
from jaxvision import features, linear_head, splits
from jaxvision.cli.errors import run_command
from jaxvision.config import Config
from jaxvision.datasets.subsets import few
from jaxvision.finetune import RECIPE

NAME = "scripts/compare_finetuning.py"
MODEL = "tf_efficientnet_lite0"
RIVAL = Config(model=MODEL, init_from="pretrained", optimizer="adamw", augmentations="horizontal_flip", epochs=10)
GRID: dict[str, Any] = {
    "learning_rate": [1e-4, 3e-4, 1e-3],
    "layer_decay": [0.7, 1.0],
    "freeze": ["", "batch_norm"],
}
SCRATCH = Config(model=MODEL, optimizer="adamw", learning_rate=1e-3, augmentations="horizontal_flip", epochs=40)
NUM_CIFAR10 = {"train": 100, "test": 50}  # images of each class


class Place(NamedTuple):
    """The folder of the data, that of temporary files, and the height and width of the images in pixels."""

    data: Path
    temporary: Path
    size: int

    def spec(self, name: str, per_class: int | None) -> str:
        """Return the spec of a set with a number of training images of each class, all for None."""
        folder = self.temporary / name
        if not folder.exists():
            SETS[name](self.data, folder)
        chosen = "" if per_class is None else f", per_class={per_class}"
        return f"folder(path={str(folder)!r}, image_size={self.size}{chosen})"


def link_folders(source: Path, folder: Path) -> None:
    """Link the class folders of train; all that is beside train is test."""
    folder.mkdir()
    (folder / "train").symlink_to((source / "train").resolve())
    for part in sorted(source.iterdir()):
        if part.name != "train" and part.is_dir():
            for kind in sorted(part.iterdir()):
                (folder / "test" / kind.name).mkdir(parents=True, exist_ok=True)
                (folder / "test" / kind.name / part.name).symlink_to(kind.resolve())


def link_products(source: Path, folder: Path) -> None:
    """Link the product photographs by gender, without Boys and Girls, which are few; every fifth row is test."""
    with (source / "styles.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["gender"] in ("Men", "Women", "Unisex")]
        for number, row in enumerate(rows):
            place = folder / ("train" if number % 5 else "test") / row["gender"]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row['id']}.jpg").symlink_to((source / "images" / f"{row['id']}.jpg").resolve())


def write_cifar10(folder: Path) -> None:
    """Write the first images of each class of CIFAR-10 as files."""
    data = datas.open_dataset(Config(dataset="cifar10", validation_fraction=0.0))
    for name, split in datas.splits_of(data).items():
        for target, kind in enumerate(data.classes):
            place = folder / name / kind
            place.mkdir(parents=True)
            rows = np.flatnonzero(np.asarray(split.targets) == target)[: NUM_CIFAR10[name]]
            for row, pixels in zip(rows, split.read(rows), strict=True):
                Image.fromarray(pixels).save(place / f"{row}.png")


SETS: dict[str, Callable[[Path, Path], None]] = {
    "clothing": lambda data, folder: link_folders(data / "clothing", folder),
    "cats_dogs": lambda data, folder: link_folders(data / "cats_dogs", folder),
    "imagenette": lambda data, folder: link_folders(data / "imagenette", folder),
    "gender": lambda data, folder: link_products(data / "fashion_products", folder),
    "cifar10": lambda _, folder: write_cifar10(folder),
}


def probes(place: Place, name: str, per_classes: Sequence[int], seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of linear heads, from the features of all images, which are computed once."""
    backbone = features.open_backbone(MODEL)
    config = Config(dataset=place.spec(name, None), validation_fraction=0.0)
    data = datas.open_dataset(config, preprocessing=backbone.preprocessing)
    pooled = features.pooled_features(backbone, data)
    test = pooled["test"], datas.splits_of(data)["test"].targets
    positions = jv.Split.of(np.arange(len(data.train)), data.train.targets, kind="multiclass")
    for per_class in per_classes:
        for seed in range(seeds):
            drawn = few(positions, per_class, seed=seed)
            train, validation = splits.holdout(drawn, RECIPE.validation_fraction, seed=seed)
            examples = [
                (pooled["train"][part.read(np.arange(len(part)))], part.targets) for part in (train, validation)
            ]
            head = linear_head.fit_and_choose(examples[0], examples[1], len(data.classes))
            figures = {"accuracy": linear_head.accuracy(head, test), "loss": linear_head.log_loss(head, test)}
            yield {"per_class": per_class, "seed": seed, "test": figures, "strength": head.strength}


def finetuned(place: Place, name: str, per_class: int, seed: int, *, minutes: float) -> dict[str, Any]:
    """Run finetune, and return the figures of both of its stages."""
    began = time.monotonic()
    found = jv.finetune(
        place.spec(name, per_class),
        model=MODEL,
        minutes=minutes,
        seed=seed,
        workdir=place.temporary / f"{name}-{per_class}-{seed}",
    )
    won = found.probe if found.winner == "probe" else found.finetuned
    stages = {"probe": found.probe._asdict(), "finetuned": found.finetuned._asdict()}
    return {**stages, "winner": found.winner, "test": won.test, "seconds": time.monotonic() - began}


def rival(place: Place, name: str, per_class: int, seed: int) -> dict[str, Any]:
    """Run the sweep, and return the figures on test of the trial that is best on validation."""
    began = time.monotonic()
    config = _configured(RIVAL, place, name, per_class, seed)
    swept = jv.sweep(config, GRID, workdir=place.temporary / f"rival-{name}-{per_class}-{seed}")
    chosen = swept.workdir / str(swept.rows[0]["trials"][0])
    report = jv.evaluate(chosen)
    figures = {"accuracy": report["accuracy"], "loss": report["loss"]}
    return {"test": figures, "setting": swept.rows[0]["setting"], "seconds": time.monotonic() - began}


def scratch(place: Place, name: str, per_class: int, seed: int) -> dict[str, Any]:
    """Train the model from new weights, and return the figures on test of the checkpoint that counts."""
    began = time.monotonic()
    config = _configured(SCRATCH, place, name, per_class, seed)
    workdir = place.temporary / f"scratch-{name}-{per_class}-{seed}"
    jv.train(config, workdir=workdir)
    report = jv.evaluate(workdir)
    return {
        "test": {"accuracy": report["accuracy"], "loss": report["loss"]},
        "seconds": time.monotonic() - began,
    }


def _configured(config: Config, place: Place, name: str, per_class: int, seed: int) -> Config:
    return config.replace(
        dataset=place.spec(name, per_class),
        validation_fraction=RECIPE.validation_fraction,
        batch_size=16,
        seed=seed,
        split_seed=seed,
    )


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table: the accuracy on test, mean and deviation over seeds, by set and part."""
    found: dict[Any, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        row = found[line["set"], line["per_class"], line["image_size"]]
        row[line["part"]].append(line["test"]["accuracy"])
        if line["part"] == "finetune":
            row["its head"].append(line["probe"]["test"]["accuracy"])
            row["its last stage"].append(line["finetuned"]["test"]["accuracy"])
        if line["part"] in ("finetune", "rival"):
            row[f"minutes of {line['part']}"].append(line["seconds"] / 60)
    columns = (
        *("scratch", "probe", "its head", "its last stage", "finetune", "rival"),
        *("minutes of finetune", "minutes of rival"),
    )
    text = [f"| set | per class | pixels | {' | '.join(columns)} |", "|---" * (len(columns) + 3) + "|"]
    for (name, per_class, size), row in sorted(found.items()):
        cells = [_cell(row[column]) for column in columns]
        text.append(f"| {name} | {per_class} | {size} | {' | '.join(cells)} |")
    return "\n".join(text)


def _cell(values: Sequence[float]) -> str:
    """Return mean, deviation and number of values."""
    if not values:
        return ""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {deviation:.3f} ({len(values)})"


def main(argv: Sequence[str]) -> None:
    """Compare finetune with others on few images: python scripts/compare_finetuning.py --part=PART [--data=FOLDER]"""

    def define(values: flags.FlagValues) -> None:
        parts, counts = ("probe", "finetune", "rival", "scratch", "table"), ["10", "40"]
        flags.DEFINE_string("data", "data", "folder of the data", flag_values=values)
        flags.DEFINE_string("out", "finetuning.jsonl", "file with a line for each run", flag_values=values)
        flags.DEFINE_enum("part", "table", parts, "what to run", flag_values=values)
        flags.DEFINE_list("sets", list(SETS), "names of sets", flag_values=values)
        flags.DEFINE_list("per_class", counts, "numbers of training images of each class", flag_values=values)
        flags.DEFINE_integer("seeds", 3, "number of seeds", lower_bound=1, flag_values=values)
        flags.DEFINE_integer("image_size", 160, "height and width of the images, in pixels", flag_values=values)
        flags.DEFINE_float("minutes", 10.0, "time of one finetune", flag_values=values)

    values, rest = parse(NAME, main.__doc__ or "", define, argv)
    require_no_words(NAME, rest)
    path, per_classes = Path(values.out), [int(count) for count in values.per_class]
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("part", "set", "per_class", "seed", "image_size")
    done = {tuple(line[key] for key in keys) for line in lines}

    def add(row: dict[str, Any]) -> None:
        lines.append(row)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print({key: row[key] for key in (*keys, "test")}, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        place = Place(Path(values.data), Path(temporary), values.image_size)
        if values.part == "probe":
            for name in values.sets:
                for row in probes(place, name, per_classes, values.seeds):
                    row = {"part": "probe", "set": name, "image_size": place.size, **row}
                    if tuple(row[key] for key in keys) not in done:
                        add(row)
        elif values.part != "table":
            one = {"finetune": lambda *key: finetuned(*key, minutes=values.minutes), "rival": rival, "scratch": scratch}
            for seed in range(values.seeds):
                for name in values.sets:
                    for per_class in per_classes:
                        key = (values.part, name, per_class, seed, place.size)
                        if key not in done:
                            figures = one[values.part](place, name, per_class, seed)
                            add({**dict(zip(keys, key, strict=True)), **figures})
    print(table(lines))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], NAME))
