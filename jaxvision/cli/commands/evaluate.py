"""The command evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import require
from jaxvision.cli.workdirs import split_workdirs
from jaxvision.evaluate import evaluate as run_evaluate


@command(group="Use a trained run")
def evaluate(
    *workdirs: str,
    workdir: tuple[str, ...] = (),
    split: str | None = option(run_evaluate, "split"),
    checkpoint: str = option(run_evaluate, "checkpoint"),
    tta: Literal["none", "flip", "flip_shift"] | None = option(run_evaluate, "tta"),
    out: str | None = option(run_evaluate, "out"),
    format: Literal["text", "json"] = "text",
    fid_classifier: str | None = option(run_evaluate, "fid_classifier"),
    no_images: bool = option(run_evaluate, "no_images"),
    calibrate: bool | None = option(run_evaluate, "calibrate"),
    dataset: str | None = option(run_evaluate, "dataset"),
    data_dir: str | None = option(run_evaluate, "data_dir"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Evaluate a trained run on a split, or several as an ensemble, and write the report.

    Args:
        workdirs: folders of trained runs; several form an ensemble, evaluated on its mean prediction
        workdir: the same as a repeatable flag
        split: train, validation or test (default: test, or validation if there is no test split); with --dataset of
            other data also all
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint
        tta: test-time augmentation: none, flip, flip_shift (default: that of training)
        out: folder of the report (default: report in the workdir; of other data report_other_data)
        format: output format, text or json
        fid_classifier: workdir of a classifier, whose features are used for the FID of generated images
        no_images: leave images out of the report, as photographs of people; a run trained so always does
        calibrate: fit a temperature on validation, store and apply it; --calibrate=False: do not apply a stored one
            (default: the stored one, fitted for other checkpoints of its run)
        dataset: spec of moved or other data; the difference from those of training is printed, and nothing is fitted
        data_dir: folder of TensorFlow Datasets (default: that of training)

    Examples:
        jaxvision evaluate runs/first
        jaxvision evaluate runs/first --split=validation --tta=flip --out=reports/flip
        jaxvision evaluate runs/seed0 runs/seed1 runs/seed2
        jaxvision evaluate runs/first --dataset="folder(path='new_photos')" --split=all
    """
    from jaxvision import reports
    from jaxvision.ensemble import ensemble

    members = split_workdirs([*workdirs, *workdir])
    require(members, "evaluate needs the folder of a trained run, as in evaluate runs/first")
    require(len(members) == 1 or not fid_classifier, "--fid_classifier supports one generator, not several")
    require(len(members) == 1 or not calibrate, "--calibrate supports one run, not an ensemble")
    require(len(members) == 1 or not dataset, "--dataset supports one run, not an ensemble")
    options = {
        "split": split,
        "checkpoint": checkpoint,
        "tta": tta,
        "out": out,
        "data_dir": data_dir,
        "no_images": no_images,
        "plugins": plugins,
    }
    if len(members) > 1:
        report = ensemble(members, **options)
    else:
        report = run_evaluate(
            members[0], **options, dataset=dataset, fid_classifier=fid_classifier, calibrate=calibrate
        )
    print(json.dumps(report, indent=2) if format == "json" else reports.text(report))
    if format != "json":
        print(f"report and plots in {out or reports.folder_of(Path(members[0]), report)}")
