"""The commands that use a trained run: evaluate and predict."""

from __future__ import annotations

import sys

from absl import flags

from jaxvision.cli.errors import UsageError, require
from jaxvision.cli.flags import Argv, define_places, parse, require_no_words
from jaxvision.cli.tables import FORMATS, print_rows
from jaxvision.config import FIELDS


def _define_evaluate(values: flags.FlagValues) -> None:
    define_places(values)
    flags.DEFINE_list("workdir", [], "folder of the trained run; of several, by commas, the mean", flag_values=values)
    flags.DEFINE_string("split", "test", "train, validation or test", flag_values=values)
    flags.DEFINE_string("judge", None, "workdir of a classifier that judges made images", flag_values=values)


def evaluate(argv: Argv) -> None:
    """Judge a trained run, or the mean of several: jaxvision evaluate --workdir=runs/first[,…] [--split=validation]"""
    from jaxvision import reports
    from jaxvision.ensemble import ensemble as run_ensemble
    from jaxvision.evaluate import evaluate as run_evaluate

    values, rest = parse("evaluate", evaluate.__doc__ or "", _define_evaluate, argv)
    require_no_words("evaluate", rest)
    require(values.workdir, "evaluate needs --workdir=…, the folder of a trained run")
    options = {"split": values.split, "data_dir": values.data_dir, "plugins": values.plugins}
    if len(values.workdir) > 1:
        require(values.judge is None, "evaluate --judge=… judges what one run makes, not several: give one --workdir")
        report = run_ensemble(values.workdir, **options)
    else:
        report = run_evaluate(values.workdir[0], **options, judge=values.judge)
    print(reports.text(report))


def _define_predict(values: flags.FlagValues) -> None:
    define_places(values)
    flags.DEFINE_string("workdir", None, "folder of the trained run", flag_values=values)
    flags.DEFINE_enum("format", "table", FORMATS, "how the rows are printed", flag_values=values)
    flags.DEFINE_integer("top", 3, "classes shown for each image", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("batch_size", None, "images at once", lower_bound=1, flag_values=values)
    help = "say beside it which images are blurred, dark, bright or flat, by simple measures"
    flags.DEFINE_bool("advice", False, help, flag_values=values)
    help = FIELDS["on_bad_image"].metadata["help"]
    flags.DEFINE_enum("on_bad_image", "error", ["error", "skip"], help, flag_values=values)


def predict(argv: Argv) -> None:
    """Predict images or series: jaxvision predict --workdir=runs/one IMAGE|FOLDER|GLOB|TABLE … [--format=json|csv]"""
    from jaxvision.advice import advise
    from jaxvision.predict import predict as run_predict

    values, files = parse("predict", predict.__doc__ or "", _define_predict, argv)
    require(values.workdir, "predict needs --workdir=…, the folder of a trained run")
    needed = "image files, folders or patterns, as in predict --workdir=… photos/*.jpg, or tables of a series"
    require(files, f"predict needs {needed}")
    found = run_predict(
        values.workdir, files, batch_size=values.batch_size, on_bad_image="skip", plugins=values.plugins
    )
    rows = found.rows(top=values.top)
    require(not (values.advice and found.after), "--advice is about images, and this run reads series; leave it out")
    if values.advice:
        rows = [{**row, "advice": ", ".join(advise(row["file"]))} for row in rows]
    print_rows(rows, values.format)
    _tell_unreadable(list(found.errors.values()), is_skipped=values.on_bad_image == "skip")


def _tell_unreadable(errors: list[str], *, is_skipped: bool) -> None:
    """Say which images could not be read, after the rows of the others; raise UsageError where they are not skipped."""
    if errors and is_skipped:
        print(f"jaxvision: skipped {len(errors)} unreadable images, the first: {errors[0]}", file=sys.stderr)
    elif errors:
        more = f" (and {len(errors) - 1} more; --on_bad_image=skip counts them)" if len(errors) > 1 else ""
        raise UsageError(f"{errors[0]}{more}")
