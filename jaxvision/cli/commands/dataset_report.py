"""The command dataset_report."""

from __future__ import annotations

from jaxvision.cli.command import command, option
from jaxvision.cli.experiments import Experiment
from jaxvision.dataset_report import dataset_report as run_report
from jaxvision.dataset_report import text


@command(group="Look at data", fields=("dataset", "split_seed", "validation_fraction"), required=("dataset",))
def dataset_report(
    experiment: Experiment,
    *,
    out: str = option(run_report, "out"),
    data_dir: str | None = option(run_report, "data_dir"),
) -> None:
    """Check a dataset before training: counts, unreadable files, near-duplicates within and across splits.

    Args:
        out: folder of report.json and plots
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)

    Examples:
        jaxvision dataset_report --dataset="folder(path='photos')" --out=reports/photos
    """
    print(text(run_report(experiment.config, out=out, data_dir=data_dir)))
    print(f"report and plots in {out}")
