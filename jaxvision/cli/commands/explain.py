"""The command explain."""

from __future__ import annotations

import sys
from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import require
from jaxvision.cli.workdirs import refuse_workdirs
from jaxvision.explain import explain as run_explain


@command(group="Use a trained run")
def explain(
    *images: str,
    workdir: str | None = None,
    method: str = option(run_explain, "method"),
    target: str | None = option(run_explain, "target"),
    out: str = option(run_explain, "out"),
    checkpoint: str = option(run_explain, "checkpoint"),
    batch_size: int = option(run_explain, "batch_size"),
    on_bad_image: Literal["error", "skip"] = "error",
    max_image_pixels: int | None = option(run_explain, "max_image_pixels"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Draw which parts of images a prediction depends on.

    Args:
        images: image files, folders or glob patterns
        workdir: folder of a trained run
        method: spec of an explanation, as "grad_cam(layer='stage3')"; see `jaxvision list explanations`
        target: class or label to explain, by name or index (default: the predicted one)
        out: folder to write to, a .png of image and heat map and a .npy of the raw map for each image
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint
        batch_size: images in one compiled call
        on_bad_image: error exits with status 2 if a file cannot be read; skip goes on and names it
        max_image_pixels: pixels that an image file may have (default: the limit of training)

    Examples:
        jaxvision explain --workdir=runs/first photos/*.jpg
        jaxvision explain --workdir=runs/first photos --target=cat --method=integrated_gradients
    """
    require(workdir, "explain needs --workdir, the folder of a trained run")
    assert workdir is not None
    refuse_workdirs(images, [workdir])
    require(images, "explain needs image files, folders or patterns, as in explain --workdir=runs/first photos/*.jpg")
    for name, value in (("batch_size", batch_size), ("max_image_pixels", max_image_pixels)):
        require(value is None or value >= 1, f"--{name}={value} must be at least 1")
    result = run_explain(
        workdir,
        images,
        method=method,
        target=target,
        out=out,
        checkpoint=checkpoint,
        batch_size=batch_size,
        on_bad_image=on_bad_image,
        max_image_pixels=max_image_pixels,
        plugins=plugins,
    )
    for file, name, value in zip(result.files, result.targets, result.values, strict=True):
        print(f"{file}  {name} {value:.4g}")
    if result.errors:
        first = next(iter(result.errors.values()))
        print(f"jaxvision: skipped {len(result.errors)} unreadable images, the first: {first}", file=sys.stderr)
    print(f"{result.source}: wrote {len(result.files)} .png, and raw maps as .npy, to {out}")
