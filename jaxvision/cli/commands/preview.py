"""The command preview."""

from __future__ import annotations

from jaxvision.cli.command import command, option
from jaxvision.cli.experiments import Experiment
from jaxvision.preview import preview as run_preview


@command(
    group="Look at data", fields=("dataset", "augmentations", "seed", "split_seed", "on_bad_image", "max_image_pixels")
)
def preview(
    experiment: Experiment,
    *,
    out: str = option(run_preview, "out"),
    num_images: int = option(run_preview, "num_images"),
    num_versions: int = option(run_preview, "num_versions"),
    data_dir: str | None = option(run_preview, "data_dir"),
) -> None:
    """Plot training images next to augmented versions of them.

    Args:
        out: .png file to write
        num_images: number of training images (rows)
        num_versions: number of augmented versions of each (columns)
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)

    Examples:
        jaxvision preview --dataset=cifar10 --augmentations='horizontal_flip, random_crop(padding=4)'
        jaxvision preview --experiment=digits --out=digits.png
    """
    file = run_preview(experiment.config, out=out, num_images=num_images, num_versions=num_versions, data_dir=data_dir)
    print(f"wrote {file}")
