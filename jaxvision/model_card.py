"""The model card of exported weights: README.md, as the Hugging Face Hub and timm know it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from jaxvision import model_card_results as results
from jaxvision import run as runs
from jaxvision.config import fields_of
from jaxvision.initial_weights import Origin, without_folders
from jaxvision.markdown import code, escaped, table
from jaxvision.model_card_results import Report
from jaxvision.model_card_usage import input_lines, usage_lines

MOST_NAMED = 20  # classes
UNBALANCED = 1.5  # images of the most frequent class for each of the rarest, from where on the card states the ratio
STATED = ("task", "optimizer", "learning_rate", "batch_size", "augmentations", "seed")  # settings, default or not
ELSEWHERE = ("model", "dataset", "init_from", "epochs", "steps")  # settings that other lines of the card state
KINDS = {"multiclass": "classes", "multilabel": "labels"}
SINGULAR = {"multiclass": "class", "multilabel": "label"}


def model_card(
    trained: runs.Trained,
    reports: Sequence[Report],
    *,
    architecture: str,
    chosen: str,
    origins: Sequence[Origin] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the model card of a trained run.

    Args:
        trained: the run with the exported parameters.
        reports: contents of the report.json of this checkpoint, test first.
        architecture: timm's name of the network.
        chosen: how the checkpoint was chosen, as in a report.
        origins: the initial weights, and those that they started from.
        notes: sentences about reports that were left out.
    """
    sections = {
        "": _what_it_does(trained, architecture),
        "Input": input_lines(trained.run.signature.preprocessing),
        "Use": usage_lines(trained.run),
        "Training": _training(trained, origins),
        "Results": _results(trained, reports, chosen, notes),
        "License": _license(origins),
        "Limits": [f"- {limit}" for limit in _limits(trained, reports)],
    }
    lines = _front_matter(trained, reports, origins)
    for heading, body in sections.items():
        lines += [f"## {heading}", "", *body, ""] if heading else [*body, ""]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip("\n") + "\n"


def _unit(trained: runs.Trained) -> str:
    return "images" if trained.run.signature.preprocessing.is_image else "windows"


def _license_of(origins: Sequence[Origin]) -> str | None:
    return next((origin.license for origin in origins if origin.license), None)


def _front_matter(trained: runs.Trained, reports: Sequence[Report], origins: Sequence[Origin]) -> list[str]:
    """Return the YAML at the top, which holds no text of the user."""
    known, is_classification = _license_of(origins), trained.run.signature.targets.kind in KINDS
    metrics = results.hub_names(reports)
    tag = "image-classification" if is_classification else "image-regression"
    return [
        "---",
        "library_name: timm",
        *(["pipeline_tag: image-classification"] if is_classification else []),  # the hub has none for regression
        "tags:",
        *(f"- {each}" for each in (tag, "timm", "jaxvision")),
        f"license: {json.dumps(known.lower())}" if known else "license: other  # not stated: fill in",
        *(["metrics:", *(f"- {name}" for name in metrics)] if metrics else []),
        "---",
        "",
    ]


def _what_it_does(trained: runs.Trained, architecture: str) -> list[str]:
    signature, number = trained.run.signature, runs.num_parameters(trained.params)
    classes, kind = signature.classes, signature.targets.kind
    what = {
        "multiclass": f"Classifies an image as one of {len(classes)} classes",
        "multilabel": f"Predicts which of {len(classes)} labels an image has",
    }.get(kind, "Predicts one number from an image")
    if not signature.preprocessing.is_image:
        what = "Predicts one number from a window of a time series"
    title = f"{len(classes)} {KINDS[kind]}" if kind in KINDS else "regression"
    lines = [f"# {escaped(architecture)}, {title}", ""]
    model = without_folders(trained.run.config.model)
    lines += [f"{what}. Architecture {code(architecture)} of timm, {code(model)} in jaxvision; {number:,} parameters."]
    if classes and len(classes) <= MOST_NAMED:
        lines += ["", f"{KINDS.get(kind, 'classes').capitalize()}: {', '.join(map(escaped, classes))}."]
    elif classes:
        lines += [
            "",
            f"The names of the {len(classes):,} {KINDS.get(kind, 'classes')} are `label_names` in `config.json`.",
        ]
    return lines


def _training(trained: runs.Trained, origins: Sequence[Origin]) -> list[str]:
    config, signature = trained.run.config, trained.run.signature
    targets, num_steps = signature.targets, runs.count_steps(config, signature.targets.num_examples)
    lines = [
        f"- dataset: {code(without_folders(config.dataset))}, {targets.num_examples:,} training {_unit(trained)}",
        f"- fingerprint of the data: {code(signature.data)}",
        f"- initial weights: {' ← '.join(map(_told, origins)) or 'random'}",
        f"- the exported checkpoint is that of step {trained.step:,}; the run was set to {num_steps:,} steps",
        *(f"- plug-in: {code(without_folders(plugin))}" for plugin in signature.plugins),
        "",
    ]
    if targets.counts and len(targets.counts) <= MOST_NAMED:
        rows = [[escaped(name), f"{count:,}"] for name, count in zip(signature.classes, targets.counts, strict=True)]
        lines += [*table([SINGULAR[targets.kind], "training images"], rows), ""]
    elif targets.counts:
        counts = sorted(targets.counts)
        lines += [
            f"Training images by class: from {counts[0]:,} to {counts[-1]:,}, median {counts[len(counts) // 2]:,}.",
            "",
        ]
    else:
        lines += [f"Targets of training: mean {targets.mean:.6g}, deviation {targets.std:.6g}.", ""]
    defaults = {name: field.default for name, field in fields_of(type(config)).items()}
    settings = {
        name: getattr(config, name)
        for name, default in defaults.items()
        if name in STATED or (name not in ELSEWHERE and getattr(config, name) != default)
    }
    rows = [[code(name), _setting(value)] for name, value in settings.items()]
    return [*lines, *table(["setting", "value"], rows), "", "Other settings have their defaults."]


def _told(origin: Origin) -> str:
    return f"{code(origin.source)} ({origin.what})"


def _setting(value: object) -> str:
    if value is None or value == "":
        return "none" if value == "" else "default"
    return code(without_folders(value)) if isinstance(value, str) else str(value)


def _results(trained: runs.Trained, reports: Sequence[Report], chosen: str, notes: Sequence[str]) -> list[str]:
    lines = [f"Checkpoint of step {trained.step:,}, chosen as: {escaped(chosen)}.", ""]
    for report in reports:
        kind, tta = trained.run.signature.targets.kind, trained.run.execution.tta
        lines += results.result_lines(report, kind=kind, unit=_unit(trained), tta=tta)
    if not reports:
        name = trained.workdir.name if trained.workdir.name.isprintable() else "WORKDIR"
        rule = runs.checkpoint_rule(trained.run.config, trained.run.signature)
        which = "" if trained.checkpoint == rule else f" --checkpoint={trained.checkpoint}"
        lines += ["There is no evaluation of this checkpoint. One is made by this command, before another export:", ""]
        lines += ["```sh", f"jaxvision evaluate --workdir={shlex.quote(name)}{which}", "```", ""]
    return [*lines, *(f"- {escaped(note)}" for note in notes)]


def _license(origins: Sequence[Origin]) -> list[str]:
    known = _license_of(origins)
    if known:
        named = next(origin for origin in origins if origin.license)
        first = f"The initial weights, {code(named.source)}, are under {escaped(known)}."
    elif origins:
        first = f"The license of the initial weights, {code(origins[-1].source)}, is not known here."
    else:
        first = "The run started from random parameters, so that no license comes with its weights."
    repair = "" if known else " Fill in `license` at the top."
    return [f"{first} The license of the training data is not known here, and may limit the use of the model.{repair}"]


def _limits(trained: runs.Trained, reports: Sequence[Report]) -> list[str]:
    """Return the limits that follow from the data, the reports and the versions of this run."""
    signature, limits = trained.run.signature, []
    kind, counts = signature.targets.kind, dict(zip(signature.classes, signature.targets.counts, strict=False))
    if kind == "multiclass":
        limits.append(f"One of these {len(counts)} classes is always predicted, also for an image of something else.")
    elif kind == "multilabel":
        limits.append("Only these labels are known; an image of something else can have a high probability for some.")
    else:
        limits.append("A number is always predicted, also for an input that is unlike those of training.")
    few = [results.few_examples(report, kind=kind, unit=_unit(trained)) for report in reports]
    limits += [text for text in few if text]
    if any(report["split"] == "validation" for report in reports):
        limits.append("Validation was used to choose the checkpoint, so that its figures are optimistic.")
    empty = [name for name, count in counts.items() if not count]
    occurring = [count for count in counts.values() if count]
    if empty:
        more = f" and {len(empty) - MOST_NAMED} more" if len(empty) > MOST_NAMED else ""
        limits.append(f"Without a training image: {', '.join(map(escaped, empty[:MOST_NAMED]))}{more}.")
    if occurring and max(occurring) >= UNBALANCED * min(occurring):
        ratio = max(occurring) / min(occurring)
        limits.append(
            f"The {KINDS[kind]} are unbalanced: the most frequent has {ratio:.1f} times as many training images as the "
            f"rarest ({max(occurring):,} and {min(occurring):,})."
        )
    versions = ", ".join(f"{name} {version}" for name, version in signature.versions.items())
    return [*limits, f"Trained with {escaped(versions)}; other versions can give slightly different outputs."]
