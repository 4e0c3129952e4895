"""Evaluate a checkpoint of a run on a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxvision import data as datas
from jaxvision import reports
from jaxvision import run as runs
from jaxvision import workdir as workdirs
from jaxvision.evaluation import evaluate_on
from jaxvision.interfaces import Dataset


def evaluate(
    workdir: str | Path,
    *,
    split: str = "test",
    checkpoint: str | int = "best",
    tta: str | None = None,
    out: str | Path | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    fid_classifier: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> reports.Report:
    """Evaluate a checkpoint on a split, write the report and return it.

    Args:
        workdir: The folder of a trained run.
        split: train, validation or test.
        checkpoint: best, last, or the step of a checkpoint.
        tta: Test-time augmentation: none, flip or flip_shift. If None, that of training.
        out: The folder for the report. If None, `report` in the workdir, or `report_<split>` for other splits.
        data_dir: The folder of TensorFlow Datasets. If None, that of training.
        dataset: The data, as for `train`, if training had them in memory.
        fid_classifier: The workdir of a classifier, whose features give FID and class coverage of generated images.
        plugins: Modules or .py files that register more, besides those of training.

    Returns:
        The content of report.json.

    Raises:
        ValueError: The data are not those of the run, or it has no such split or checkpoint.
        FileNotFoundError: There is no such workdir.
    """
    trained, data = opened(workdir, checkpoint=checkpoint, tta=tta, data_dir=data_dir, dataset=dataset, plugins=plugins)
    return evaluate_on(trained, data, split=split, out=out, fid_classifier=fid_classifier, plugins=plugins)


def opened(
    workdir: str | Path,
    *,
    checkpoint: str | int = "best",
    tta: str | None = None,
    data_dir: str | None = None,
    dataset: Any = None,
    plugins: Sequence[str] = (),
) -> tuple[runs.Trained, Dataset]:
    """Load a trained run and open its data. Raises ValueError if these are not what it was trained on."""
    path = workdirs.open_workdir(workdir)
    trained = runs.load(path, checkpoint=checkpoint, tta=tta, plugins=plugins)
    config, signature = trained.run.config, trained.run.signature
    preprocessing = signature.preprocessing if config.init_from else None
    place = data_dir or signature.data_dir
    data = datas.open_dataset(config, data_dir=place, dataset=dataset, preprocessing=preprocessing)
    if datas.fingerprint(data) != signature.data:
        raise ValueError(
            f"these are not the data that the run in {str(path)!r} was trained on, so the splits could mix"
        )
    return trained, data
