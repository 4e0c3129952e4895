"""Evaluate a checkpoint of a run on a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision import data as datas
from jaxvision import failures, reports
from jaxvision.evaluation import evaluate_on


def evaluate(
    workdir: str | Path,
    *,
    split: str | None = None,
    checkpoint: str | int = "chosen",
    tta: str | None = None,
    out: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    fid_classifier: str | Path | None = None,
    no_images: bool = False,
    calibrate: bool | None = None,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate a checkpoint on a split, write the report and return it.

    Args:
        workdir: The folder of a trained run.
        split: train, validation or test. If None, test, or validation if there is no test split.
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint.
        tta: Test-time augmentation: none, flip or flip_shift. If None, that of training.
        out: The folder for the report. If None, `report` in the workdir, or `report_<split>` for other splits.
        data_dir: The folder of TensorFlow Datasets. If None, that of training.
        dataset: The data, as for `train`, if training had them in memory; or a dataset spec, which may name other data
            than those of training. Then the report states the difference, nothing is fitted, and split may be "all".
        fid_classifier: The workdir of a classifier, whose features give FID and class coverage of generated images.
        no_images: Leave images out of the report; a run trained so always does.
        calibrate: True fits a temperature on validation and stores it in the workdir, where `predict` finds it. None
            does so for runs that have one for another checkpoint, and else uses the stored one, if any. False reports
            the network's own probabilities.
        plugins: Modules or .py files that register more, besides those of training.

    Returns:
        The content of report.json.

    Raises:
        ValueError: The data are not those of the run and no spec names them, other data do not fit the run, or it has
            no such split or checkpoint.
        FileNotFoundError: There is no such workdir.
    """
    from jaxvision.evaluation_data import open_run

    opened = open_run(workdir, checkpoint=checkpoint, tta=tta, data_dir=data_dir, dataset=dataset, plugins=plugins)
    if split == "all" and not opened.differences:
        raise ValueError(failures.no_split_of_all(list(datas.splits_of(opened.data))))
    if no_images:
        run = opened.trained.run
        run = run._replace(execution=run.execution.replace(no_images=True))
        opened = opened._replace(trained=opened.trained._replace(run=run))
    options: dict[str, Any] = {"fid_classifier": fid_classifier, "calibrate": calibrate, "plugins": plugins}
    return evaluate_on(*opened, split=split, out=out, **options)
