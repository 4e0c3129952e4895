"""The command finetune."""

from __future__ import annotations

from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import require
from jaxvision.finetune import finetune as run_finetune


@command(group="Train")
def finetune(
    *,
    dataset: str | None = None,
    model: str | None = option(run_finetune, "model"),
    init_from: str | None = option(run_finetune, "init_from"),
    minutes: float = option(run_finetune, "minutes"),
    unlabeled: str | None = option(run_finetune, "unlabeled"),
    label: int = option(run_finetune, "label"),
    on_bad_image: Literal["error", "skip"] = option(run_finetune, "on_bad_image"),
    seed: int = option(run_finetune, "seed"),
    workdir: str | None = None,
    data_dir: str | None = option(run_finetune, "data_dir"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Fine-tune a pretrained model on your images: a linear head first, then all layers, within a time budget.

    Args:
        dataset: spec of the images, as in "folder(path='photos')" for a folder with one folder per class
        model: model spec (default: one whose pretrained weights are installed)
        init_from: initial weights (default: the registered ones of the model)
        minutes: about the time for all of it
        unlabeled: folder of images without labels; label_next.csv then names those to label next
        label: how many of them
        on_bad_image: what to do with an unreadable image file
        seed: seed of training and of the splits that are held out
        workdir: folder of the run; the same command resumes it (default: a new one in workdirs/)
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)

    Examples:
        jaxvision finetune --dataset="folder(path='photos')" --workdir=runs/photos
        jaxvision finetune --dataset="folder(path='photos')" --model=tf_efficientnet_lite2 --minutes=60
    """
    require(dataset, "finetune needs --dataset, as in --dataset=\"folder(path='photos')\"")
    require(label > 0, f"--label={label} must be above 0")
    require(minutes > 0, f"--minutes={minutes} must be above 0")
    found = run_finetune(
        dataset or "",
        model=model,
        init_from=init_from,
        minutes=minutes,
        unlabeled=unlabeled,
        label=label,
        on_bad_image=on_bad_image,
        seed=seed,
        workdir=workdir,
        data_dir=data_dir,
        plugins=plugins,
    )
    print(f"\n{found}")
    print(f"predict more images: jaxvision predict --workdir={found.workdir} IMAGE …")
