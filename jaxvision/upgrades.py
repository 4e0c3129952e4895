"""What older versions wrote, under today's names: settings, specs, kinds of targets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxvision import specs, split_roles

if TYPE_CHECKING:
    from jaxvision.config import Config

FIELDS = {  # of Config and Execution, until version 0.2
    "accumulate": "grad_accum_steps",
    "augment": "augmentations",
    "clip_norm": "grad_clip_norm",
    "keep": "max_to_keep",
    "views": "tta",
}
TTA = {"one": "none", "mirrored": "flip", "mirrored_shifted": "flip_shift"}
KINDS = {"classes": "multiclass", "tags": "multilabel", "numbers": "continuous"}  # of targets
FACTORIES = {  # by the field whose specs name them
    "augmentations": {
        "blur": "gaussian_blur",
        "crop": "random_crop",
        "flip": "horizontal_flip",
        "greyscale": "grayscale",
        "rand_augment": "randaugment",
        "resize_crop": "random_resized_crop",
        "rotate": "rotation",
        "translate": "translation",
    },
    "dataset": {"series": "time_series"},
    "optimizer": {"by_part": "partition"},
}
ARGUMENTS = {  # by field, or by name of the factory
    "dataset": {"imbalance": "imbalance_ratio"},
    "translate": {"share": "fraction"},
    "translation": {"share": "fraction"},
}
TRAIN = ("train", "training", "train_set", "training_set")  # folders, until version 0.3
HAS_TEST = {  # arguments with which a dataset always has a test split, as until version 0.3
    "arrays": {"test_fraction": 0.2},
    "in_memory": {"test_fraction": 0.2},
    "table": {"test_fraction": 0.2},
    "tfds": {"test": "validation"},
}
LOSS_OPTIONS = {  # of a task in version 0.1; now arguments of its loss, but for focal, which was the exponent
    "multiclass": ("label_smoothing", "class_weights", "beta", "focal", "logit_adjustment"),
    "binary": ("label_smoothing", "class_weights", "beta", "focal"),
    "multilabel": ("positive_weight", "focal"),
}


DEFINITIONS = {  # arguments with which a factory computes as it did without them, until version 3 of config.json
    "adagrad": {"eps": 1e-7, "initial_accumulator": 0.1, "epsilon_in_sqrt": True},
    "muon": {"bias_correction": True},
    "one_cycle": {"is_delayed": True},
    "random_resized_crop": {"is_relative": True},
    "randaugment": {"interpolation": "bilinear"},
    "rmsprop": {"epsilon_in_sqrt": True, "rate_in_momentum": True},
    "trivial_augment": {"interpolation": "bilinear"},
}


def upgrade(settings: dict[str, Any]) -> dict[str, Any]:
    """Return fields of Config, Execution or both, as any older version wrote them, under today's names and values.

    >>> upgrade({"views": "mirrored", "augment": "flip, crop(padding=2)"})
    {'tta': 'flip', 'augmentations': 'horizontal_flip, random_crop(padding=2)'}
    """
    values = {FIELDS.get(name, name): value for name, value in settings.items()}
    if "tta" in values:
        values["tta"] = TTA.get(values["tta"], values["tta"])
    for name in FACTORIES:
        if isinstance(values.get(name), str):
            values[name] = ", ".join(str(_renamed(name, spec)) for spec in specs.parse_list(values[name]))
    if isinstance(values.get("task"), str):
        values["task"] = upgrade_task_spec(values["task"])
    if "SPACE" in values:
        values["SEARCH_SPACE"] = _upgrade_space(values.pop("SPACE"))
    return values


def upgrade_saved(settings: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the fields in a file of an older version under today's names, with what the version implied stated."""
    values = upgrade(settings)
    if version < 5 and "model" in values:
        values.setdefault("checkpoint_rule", "best")
    if version < 4:
        values |= {name: imply(values[name]) for name, imply in IMPLIED.items() if isinstance(values.get(name), str)}
    return values


def _with_roles(dataset: str) -> str:
    """Return a dataset spec that states the test split and the labels, where a version before 0.4 saw others.

    These took a single folder beside train as test, whatever its name, always had a test split, and took columns of 0
    and 1 for labels only if all were.
    """
    name, arguments = specs.parse(dataset)
    if name in HAS_TEST:
        of_flags = {"flags": "all"} if name == "table" and isinstance(arguments.get("target"), tuple) else {}
        return str(specs.Spec(name, {**HAS_TEST[name], **of_flags, **arguments}))
    if name != "folder" or not isinstance(arguments.get("path"), str):
        return dataset
    root = Path(os.path.expanduser(arguments["path"]))  # of a user who is unknown here, it stays as it is
    try:
        folders = [p.name for p in root.iterdir() if p.is_dir() and p.name[0] != "."]
    except (OSError, ValueError):  # what needs the data reports that they are not there
        return dataset
    beside = [folder for folder in folders if folder.lower() not in TRAIN and not folder.startswith("__")]
    if len(beside) == 1 and split_roles.role_of(beside[0]) == "validation" and len(folders) > 1:
        return str(specs.Spec(name, {**arguments, "test": beside[0]}))
    return dataset


def keep_definitions(text: str) -> str:
    """Return specs, and those inside them, with the arguments with which they compute as until version 3.

    >>> keep_definitions("partition(generator='rmsprop', ratio=0.5)")
    "partition(generator='rmsprop(epsilon_in_sqrt=True, rate_in_momentum=True)', ratio=0.5)"
    """
    return ", ".join(str(_with_definitions(spec)) for spec in specs.parse_list(text))


def _with_definitions(spec: specs.Spec) -> specs.Spec:
    arguments = {
        name: keep_definitions(value) if isinstance(value, str) and value.partition("(")[0] in DEFINITIONS else value
        for name, value in spec.arguments.items()
    }
    return specs.Spec(
        spec.name, arguments | {k: v for k, v in DEFINITIONS.get(spec.name, {}).items() if k not in arguments}
    )


IMPLIED = {  # by field: returns a value with what it implied until version 3, of the rule until 4
    "checkpoint_rule": lambda rule: "best" if rule == "auto" else rule,
    "dataset": _with_roles,
    "optimizer": keep_definitions,
    "schedule": keep_definitions,
    "augmentations": keep_definitions,
}


def with_definitions_of(run: Config, config: Config) -> Config:
    """Return a config with the specs of a run where they differ only in what the version that began it implied."""
    from jaxvision.config import is_same

    same = {
        name: getattr(run, name)
        for name, imply in IMPLIED.items()
        if is_same(name, getattr(run, name), imply(getattr(config, name)))
    }
    return config.replace(**same)


def _upgrade_space(space: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's space under today's names: for each field a list of values, or the bounds of an interval."""
    return {
        FIELDS.get(name, name): [next(iter(upgrade({name: value}).values())) for value in values]
        if isinstance(values, list)
        else values
        for name, values in space.items()
    }


def _renamed(field: str, spec: specs.Spec) -> specs.Spec:
    """Return a spec of a field under today's names."""
    new_names = ARGUMENTS.get(field, {}) | ARGUMENTS.get(spec.name, {})
    arguments = {new_names.get(name, name): value for name, value in spec.arguments.items()}
    if field == "dataset" and arguments.get("kind") in KINDS:
        arguments["kind"] = KINDS[arguments["kind"]]
    return specs.Spec(FACTORIES[field].get(spec.name, spec.name), arguments)


def upgrade_task_spec(spec: str) -> str:
    """Return a task spec of version 0.1 as it is written now: what belongs to the loss moves into it.

    >>> upgrade_task_spec("multiclass(focal=2.0, label_smoothing=0.1, best='loss')")
    "multiclass(best='loss', loss='focal(gamma=2.0, label_smoothing=0.1)')"
    >>> upgrade_task_spec("regression(loss='huber')")
    "regression(loss='huber')"
    """
    name, arguments = specs.parse(spec)
    moved = {key: value for key, value in arguments.items() if key in LOSS_OPTIONS.get(name, ())}
    if not moved:
        return spec
    rest = {key: value for key, value in arguments.items() if key not in moved}
    gamma = moved.pop("focal", 0.0)
    loss = specs.Spec("focal", {"gamma": gamma, **moved}) if gamma else specs.Spec("cross_entropy", moved)
    return str(specs.Spec(name, {**rest, "loss": str(loss)} if loss.arguments else rest))


def upgrade_targets(targets: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of targets in a signature with today's name of their kind."""
    return {**targets, "kind": KINDS.get(str(targets["kind"]), targets["kind"])}


def execution_beside(path: Path, values: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the fields of Execution from the values of config.json, where version 0.1 kept them.

    Raises ValueError if config.json is of a later version, whose execution.json is missing.
    """
    from jaxvision.config import Execution, fields_of

    if version != 1:
        raise ValueError(
            f"{str(path.parent)!r} has no {path.name}, the Execution of its run: copy it along with config.json"
        )
    return {name: values[name] for name in fields_of(Execution) if name in values}
