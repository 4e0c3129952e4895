"""The command dataset_report."""

from __future__ import annotations

from jaxvision.cli.command import command, option
from jaxvision.cli.experiments import Experiment
from jaxvision.dataset_report import dataset_report as run_report
from jaxvision.dataset_report import text


@command(
    group="Look at data",
    fields=("dataset", "split_seed", "validation_fraction", "max_image_pixels"),
    required=("dataset",),
)
def dataset_report(
    experiment: Experiment,
    *,
    out: str = option(run_report, "out"),
    data_dir: str | None = option(run_report, "data_dir"),
    no_images: bool = option(run_report, "no_images"),
) -> None:
    """Check a dataset before training: counts, unreadable files, near-duplicates within and across splits.

    Args:
        out: folder of report.html, report.json and plots
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)
        no_images: leave images out of the report, as photographs of people

    Examples:
        jaxvision dataset_report --dataset="folder(path='photos')" --out=reports/photos
    """
    print(text(run_report(experiment.config, out=out, data_dir=data_dir, no_images=no_images)))
    print(f"report and plots in {out}")
