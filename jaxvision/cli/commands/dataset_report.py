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
    workdir: str | None = option(run_report, "workdir"),
    data_dir: str | None = option(run_report, "data_dir"),
    no_images: bool = option(run_report, "no_images"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Check a dataset before training: counts, unreadable files, near-duplicates within and across splits.

    Args:
        out: folder of report.html, report.json and plots
        workdir: a run on this dataset, or a sweep of it with folds: lists the labels that it contradicts
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)
        no_images: leave images out of the report, as photographs of people

    Examples:
        jaxvision dataset_report --dataset="folder(path='photos')" --out=reports/photos
        jaxvision dataset_report --dataset=digits --workdir=runs/first --out=reports/digits
    """
    options = {"workdir": workdir, "data_dir": data_dir, "no_images": no_images, "plugins": plugins}
    print(text(run_report(experiment.config, out=out, **options)))
    print(f"report and plots in {out}")
