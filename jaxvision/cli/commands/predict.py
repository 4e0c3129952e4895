"""The command predict."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import UsageError, require
from jaxvision.cli.tables import print_rows
from jaxvision.cli.workdirs import refuse_workdirs, split_workdirs
from jaxvision.predict import predict as run_predict


@command(group="Use a trained run")
def predict(
    *images: str,
    workdir: tuple[str, ...] = (),
    checkpoint: str = option(run_predict, "checkpoint"),
    tta: Literal["none", "flip", "flip_shift"] | None = option(run_predict, "tta"),
    top: int = 3,
    format: Literal["table", "json", "csv"] | None = None,
    out: str | None = None,
    batch_size: int | None = option(run_predict, "batch_size"),
    quality_check: bool = False,
    on_bad_image: Literal["error", "skip"] = "error",
    max_image_pixels: int | None = option(run_predict, "max_image_pixels"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Predict images or series with a trained run, or with several as an ensemble.

    Args:
        images: image files, folders or glob patterns; tables for a run of time_series
        workdir: folder of a trained run; repeat it for an ensemble
        checkpoint: best, last, or the step of a checkpoint
        tta: test-time augmentation: none, flip, flip_shift (default: that of training)
        top: classes shown for each image
        format: table, json or csv (default: by the name of --out, or table)
        out: file to write to instead of the terminal
        batch_size: images per batch (default: eval_batch_size of training)
        quality_check: add a column that names blurred, dark, bright and low-contrast images
        on_bad_image: error exits with status 2 if a file cannot be read; skip exits with 0
        max_image_pixels: pixels that an image file may have (default: the limit of training)

    Examples:
        jaxvision predict --workdir=runs/first photos/*.jpg
        jaxvision predict --workdir=runs/seed0 --workdir=runs/seed1 photos --format=csv --out=predictions.csv
    """
    from jaxvision.quality_check import check_quality

    members = split_workdirs(workdir)
    require(members, "predict needs --workdir, the folder of a trained run")
    refuse_workdirs(images, members)
    require(images, "predict needs image files, folders or patterns, as in predict --workdir=runs/first photos/*.jpg")
    require(top >= 1, f"--top={top} must be at least 1")
    for name, value in (("batch_size", batch_size), ("max_image_pixels", max_image_pixels)):
        require(value is None or value >= 1, f"--{name}={value} must be at least 1")
    predictions = run_predict(
        members,
        images,
        checkpoint=checkpoint,
        tta=tta,
        batch_size=batch_size,
        on_bad_image="skip",
        max_image_pixels=max_image_pixels,
        plugins=plugins,
    )
    rows = predictions.rows(top=top)
    suffix = Path(out or "").suffix[1:]
    shown_as = format or (suffix if suffix in ("json", "csv") else "table")
    require(
        not (quality_check and predictions.after), "--quality_check needs images, and this run predicts time series"
    )
    if quality_check:
        rows = [{**row, "quality": ", ".join(check_quality(row["file"], max_pixels=sys.maxsize))} for row in rows]
    if out is None:
        print_rows(rows, shown_as)
    else:
        with open(out, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            print_rows(rows, shown_as, file)
        print(f"wrote {out}")
    _report_unreadable(list(predictions.errors.values()), is_skipped=on_bad_image == "skip")


def _report_unreadable(errors: list[str], *, is_skipped: bool) -> None:
    """Print which images could not be read, after the rows of the others; raise UsageError unless they are skipped."""
    if errors and is_skipped:
        counted = f"{len(errors)} unreadable images, the first" if len(errors) > 1 else "1 unreadable image"
        print(f"jaxvision: skipped {counted}: {errors[0]}", file=sys.stderr)
    elif errors:
        more = f" (and {len(errors) - 1} more; --on_bad_image=skip skips them)" if len(errors) > 1 else ""
        raise UsageError(f"{errors[0]}{more}")
