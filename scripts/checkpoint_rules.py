"""Compare rules that choose the checkpoint of a run on few images, by their accuracy on test.

    python scripts/checkpoint_rules.py --data=FOLDER --out=rules.jsonl
    python scripts/checkpoint_rules.py --out=rules.jsonl --only_table

FOLDER has clothing/, cats_dogs/ and imagenette/ with class folders in train/ and others, and
fashion_products/styles.csv. Each setting is trained with seeds 0 to 4; each seed draws its own images and
validation split. Rows that are already in the file are not computed again.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from script_flags import parse, require_no_words

from jaxvision import data as datas
from jaxvision import folds, pretrained, splits
from jaxvision import run as runs
from jaxvision.cli.errors import run_command
from jaxvision.config import Config
from jaxvision.datasets.subsets import few
from jaxvision.distributed import mesh as meshes
from jaxvision.distributed import runtime
from jaxvision.engine import inference, pipeline
from jaxvision.interfaces import Dataset, Split, Tree
from jaxvision.training_setup import TrainingSetup, prepare

NAME = "scripts/checkpoint_rules.py"
EPOCHS, BATCH_SIZE, NUM_EVALUATIONS = 16, 16, 8
NUM_AVERAGED = 4  # of the last evaluations
FRACTION = 0.2  # held out as validation
RULES = ("best accuracy", "best loss", "last", "averaged", "ema", "ema, best accuracy", "ema, best loss")


class Setting(NamedTuple):
    """A dataset with a number of training images of each class, and how a model is trained on it."""

    dataset: str
    per_class: int
    config: Config


LITE = Config(model="tf_efficientnet_lite0", init_from="pretrained", optimizer="adamw(weight_decay=0.01)")
FLIP = "horizontal_flip"
ALL, HEAD = LITE.replace(learning_rate=1e-3, augmentations=FLIP), LITE.replace(learning_rate=1e-2, freeze="backbone")
CNN = Config(model="cnn(batch_norm=True)", optimizer="adamw", learning_rate=2e-3)
PHOTOS = "folder(path='{data}/{name}', image_size=96)"
CLOTHING, CATS_DOGS, IMAGENETTE = (PHOTOS.replace("{name}", n) for n in ("clothing", "cats_dogs", "imagenette"))
FASHION = (
    "table(path='{data}/fashion_products/styles.csv', image='images/{{id}}.jpg', target='articleType', image_size=64, "
    "test_fraction=0.4)"
)
SETTINGS = {
    "clothing 10: all layers": Setting(CLOTHING, 10, ALL),
    "clothing 10: fitted head": Setting(CLOTHING, 10, ALL.replace(head_init="probe", learning_rate=3e-4)),
    "clothing 10: head": Setting(CLOTHING, 10, HEAD),
    "clothing 40: cnn": Setting(CLOTHING.replace("96", "48"), 40, CNN),
    "cats_dogs 30: all layers": Setting(CATS_DOGS, 30, ALL),
    "cats_dogs 60: head": Setting(CATS_DOGS, 60, HEAD),
    "cats_dogs 100: cnn": Setting(CATS_DOGS.replace("96", "48"), 100, CNN),
    "imagenette 5: all layers": Setting(IMAGENETTE, 5, ALL),
    "fashion 5: all layers": Setting(FASHION, 5, ALL),
    "fashion 10: cnn": Setting(FASHION.replace("64", "48"), 10, CNN),
    "digits 10: cnn": Setting("digits", 10, CNN.replace(learning_rate=5e-3)),
}


def open_data(folder: str, setting: Setting, seed: int) -> Dataset:
    """Return few training images, a validation split of them, and all other images as test."""
    config = setting.config.replace(
        dataset=setting.dataset.replace("{data}", folder).replace("{{", "{").replace("}}", "}"),
        split_seed=seed,
        validation_fraction=0.0,
    )
    preprocessing = None
    if config.init_from:
        loaded = pretrained.open_weights(config.model, config.init_from)
        preprocessing = pretrained.preprocessing_of(config.model, loaded)
    data = datas.open_dataset(config, preprocessing=preprocessing)
    others = [split for split in (data.validation, data.test) if split is not None]
    test = others[0] if len(others) == 1 else folds.concatenate(*others)
    train, validation = splits.holdout(few(data.train, setting.per_class, seed=seed), FRACTION, seed=seed)
    return data._replace(train=train, validation=validation, test=test)


def average(trees: list[Tree]) -> Tree:
    """Return the mean of the leaves of trees."""
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float64).astype(leaves[0].dtype), *trees)


def measure(setup: TrainingSetup, weights: Any, split: Split) -> tuple[float, float]:
    """Return (accuracy, loss) of parameters and model state on a split."""
    options: dict[str, Any] = {"batch_size": 64, "mesh": setup.run.mesh}
    params, state = weights
    values, outputs = inference.infer_split(setup.eval_step, params, state, split, **options)
    return inference.metrics_of(setup.run.task, split, outputs)["accuracy"], values["loss"]


def run(folder: str, setting: Setting, seed: int) -> dict[str, Any]:
    """Train, and return the accuracy on test of the checkpoint that each rule chooses."""
    data = open_data(folder, setting, seed)
    validation, test = data.validation, data.test
    assert validation is not None and test is not None
    steps = EPOCHS * len(data.train) // BATCH_SIZE
    config = setting.config.replace(
        seed=seed, split_seed=seed, batch_size=BATCH_SIZE, steps=steps, ema=0.98, schedule="cosine(warmup=0.1)"
    )
    weights = pretrained.open_weights(config.model, config.init_from) if config.init_from else None
    setup = prepare(runs.build(config, data), data, weights)
    state, _ = setup.make_state()
    rows = meshes.local_slice(BATCH_SIZE, setup.run.mesh)
    raw, ema = [], []
    points = {round(steps * (number + 1) / NUM_EVALUATIONS) for number in range(NUM_EVALUATIONS)}
    batches = pipeline.train_batches(setup.source, BATCH_SIZE, seed=seed, start=0, rows=rows)
    for step in range(1, steps + 1):
        batch = next(batches)
        if setup.train_steps:
            state, _ = setup.train_steps(state, [batch])
        else:
            state = setup.train_step(state, batch, 0)[0]
        if step in points:
            raw.append(jax.device_get((state.params, state.model_state)))
            ema.append(jax.device_get(state.ema))
    batches.close()
    on_validation = {"": [measure(setup, each, validation) for each in raw]}
    on_validation["ema, "] = [measure(setup, each, validation) for each in ema]
    chosen: dict[str, Any] = {"last": raw[-1], "averaged": average(raw[-NUM_AVERAGED:]), "ema": ema[-1]}
    for prefix, candidates in (("", raw), ("ema, ", ema)):
        scores = np.array(on_validation[prefix])
        newest = np.flatnonzero(scores[:, 0] == scores[:, 0].max())[-1]  # ties: the newest, as a run does
        chosen[f"{prefix}best accuracy"] = candidates[newest]
        chosen[f"{prefix}best loss"] = candidates[int(np.argmin(scores[:, 1]))]
    known: dict[int, tuple[float, float]] = {}
    for weights_of_rule in chosen.values():
        if id(weights_of_rule) not in known:
            known[id(weights_of_rule)] = measure(setup, weights_of_rule, test)
    sizes = {"train": len(data.train), "validation": len(validation), "test": len(test)}
    return {"sizes": sizes, "test": {rule: known[id(chosen[rule])] for rule in RULES}, "validation": on_validation}


def table(lines: list[dict[str, Any]]) -> str:
    """Return a Markdown table: the mean accuracy on test by setting and rule, and over settings."""
    found: dict[str, list[Any]] = defaultdict(list)
    for line in lines:
        found[line["setting"]].append(line)
    rows = [f"| setting | validation | {' | '.join(RULES)} |", "|---|---" + "|---" * len(RULES) + "|"]
    by_rule: dict[str, list[float]] = defaultdict(list)
    for name, runs_of in found.items():
        values = {rule: [line["test"][rule][0] for line in runs_of] for rule in RULES}
        for rule in RULES:
            by_rule[rule] += [float(np.mean(values[rule]))]
        cells = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}" for v in values.values()]
        rows.append(f"| {name} | {runs_of[0]['sizes']['validation']} | {' | '.join(cells)} |")
    rows.append(f"| mean | | {' | '.join(f'{np.mean(by_rule[rule]):.4f}' for rule in RULES)} |")
    differences = []
    for rule in RULES:
        pairs = [line["test"][rule][0] - line["test"]["best accuracy"][0] for line in lines]
        differences.append(f"{np.mean(pairs):+.4f} ± {np.std(pairs, ddof=1) / len(pairs) ** 0.5:.4f}")
    rows.append(
        f"| minus best accuracy, all {len(lines)} runs, with its standard error | | {' | '.join(differences)} |"
    )
    return "\n".join(rows)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(argv: Sequence[str]) -> None:
    """Compare the rules, or print the table of a file: python scripts/checkpoint_rules.py [--only_table]"""

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string("data", "data", "folder of the data", flag_values=values)
        flags.DEFINE_string("out", "rules.jsonl", "file with a line for each run", flag_values=values)
        flags.DEFINE_integer("seeds", 5, "number of seeds", lower_bound=1, flag_values=values)
        flags.DEFINE_multi_enum("setting", [], list(SETTINGS), "one of the settings; all if none", flag_values=values)
        flags.DEFINE_bool("only_table", False, "print the table of the file", flag_values=values)

    values, rest = parse(NAME, main.__doc__ or "", define, argv)
    require_no_words(NAME, rest)
    path = Path(values.out)
    if not values.only_table:
        runtime.use_compilation_cache()
        done = {(line["setting"], line["seed"]) for line in read(path)}
        for seed in range(values.seeds):
            for name in values.setting or SETTINGS:
                if (name, seed) not in done:
                    line = {"setting": name, "seed": seed, **run(values.data, SETTINGS[name], seed)}
                    with path.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    print(name, seed, {rule: line["test"][rule][0] for rule in RULES}, file=sys.stderr, flush=True)
    print(table(read(path)))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], NAME))
