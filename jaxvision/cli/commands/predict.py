"""The command predict."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jaxvision import temperature_file
from jaxvision.cli.command import command, option
from jaxvision.cli.environment import utf8_output
from jaxvision.cli.errors import UsageError, require
from jaxvision.cli.tables import print_rows
from jaxvision.cli.workdirs import refuse_workdirs, split_workdirs
from jaxvision.predict import load_members
from jaxvision.predict import predict as run_predict


@command(group="Use a trained run", prints=True)
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
    calibrate: bool = option(run_predict, "calibrate"),
    plugins: tuple[str, ...] = (),
) -> None:
    """Predict images or series with a trained run, or with several as an ensemble.

    Args:
        images: image files, folders or glob patterns; tables for a run of time_series
        workdir: folder of a trained run; repeat it for an ensemble
        checkpoint: chosen (by the rule of the run), best, last, or the step of a checkpoint
        tta: test-time augmentation: none, flip, flip_shift (default: that of training)
        top: classes shown for each image; a csv has the probability of every class
        format: table, json or csv (default: by the name of --out, or table)
        out: file to write to instead of the terminal; a csv that was interrupted goes on where it stopped
        batch_size: images per batch (default: eval_batch_size of training)
        quality_check: add a column that names blurred, dark, bright and low-contrast images
        on_bad_image: error exits with status 2 if a file cannot be read; skip exits with 0. A csv names the error
        max_image_pixels: pixels that an image file may have (default: the limit of training)
        calibrate: divide the logits by the temperature that was fitted on validation, if there is one

    Examples:
        jaxvision predict --workdir=runs/first photos/*.jpg
        jaxvision predict --workdir=runs/seed0 --workdir=runs/seed1 photos --format=csv --out=predictions.csv
    """
    from jaxvision import image_files, prediction_rows
    from jaxvision.quality_check import check_quality

    members = split_workdirs(workdir)
    require(members, "predict needs --workdir, the folder of a trained run")
    refuse_workdirs(images, members)
    require(images, "predict needs image files, folders or patterns, as in predict --workdir=runs/first photos/*.jpg")
    require(top >= 1, f"--top={top} must be at least 1")
    for name, value in (("batch_size", batch_size), ("max_image_pixels", max_image_pixels)):
        require(value is None or value >= 1, f"--{name}={value} must be at least 1")
    suffix = Path(out or "").suffix[1:]
    shown_as = format or (suffix if suffix in ("json", "csv") else "table")
    loaded = load_members(members, checkpoint=checkpoint, tta=tta, plugins=plugins)
    is_image = loaded[0].run.signature.preprocessing.is_image
    require(is_image or not quality_check, "--quality_check needs images, and this run predicts time series")
    check = (lambda file: ", ".join(check_quality(file, max_pixels=sys.maxsize))) if quality_check else None
    limits: Any = {"batch_size": batch_size, "max_image_pixels": max_image_pixels, "calibrate": calibrate}
    _report_other_checkpoint(loaded, calibrate=calibrate)
    if shown_as == "csv":
        names = image_files.find_images(images) if is_image else list(images)
        table = prediction_rows.table_of(loaded, quality=check, **limits)
        _write_csv(table, names, out, is_skipped=on_bad_image == "skip")
        return
    predictions = run_predict(loaded, images, on_bad_image="skip", **limits)
    rows = [{**row, "quality": check(row["file"])} if check else row for row in predictions.rows(top=top)]
    _write_rows(rows, shown_as, out)
    errors = list(predictions.errors.values())
    _report_unreadable(len(errors), next(iter(errors), ""), is_skipped=on_bad_image == "skip")


def _report_other_checkpoint(loaded: Sequence[Any], *, calibrate: bool) -> None:
    """Print that probabilities are not calibrated if a temperature was fitted, but for another checkpoint or tta."""
    trained = loaded[0]
    tta = trained.run.execution.tta
    if calibrate and len(loaded) == 1 and temperature_file.lacks(trained.workdir, trained.step, tta):
        print(
            f"jaxvision: probabilities are not calibrated: no temperature was fitted for step {trained.step} with tta "
            f"{tta}; `jaxvision evaluate {trained.workdir} --checkpoint={trained.step} --tta={tta}` fits one",
            file=sys.stderr,
        )


def _write_rows(rows: list[dict[str, Any]], shown_as: str, out: str | None) -> None:
    """Print rows, or write them to a file."""
    if out is None:
        print_rows(rows, shown_as)
        return
    with open(out, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        print_rows(rows, shown_as, file)
    print(f"wrote {out}")


def _write_csv(table: Any, names: list[str], out: str | None, *, is_skipped: bool) -> None:
    """Write a row for each file as soon as it is predicted, to the terminal or a file."""
    from jaxvision import prediction_file

    if out is None:
        written = prediction_file.write_to(table, names, utf8_output())
    else:
        try:
            written = prediction_file.write(table, names, Path(out))
        except KeyboardInterrupt:
            print(f"jaxvision: {out} has the rows up to now; the same command goes on after them", file=sys.stderr)
            raise
        resumed = f"; {written.num_resumed:,} were there before" if written.num_resumed else ""
        print(f"wrote {out}: {written.num_rows:,} rows{resumed}")
    _report_unreadable(written.num_errors, written.first_error, is_skipped=is_skipped)


def _report_unreadable(count: int, first: str, *, is_skipped: bool) -> None:
    """Print which images could not be read, after the rows of the others; raise UsageError unless they are skipped."""
    if count and is_skipped:
        counted = f"{count} unreadable images, the first" if count > 1 else "1 unreadable image"
        print(f"jaxvision: skipped {counted}: {first}", file=sys.stderr)
    elif count:
        more = f" (and {count - 1} more; --on_bad_image=skip skips them)" if count > 1 else ""
        raise UsageError(f"{first}{more}")
