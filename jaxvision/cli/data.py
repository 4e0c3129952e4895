"""The commands that look at data before training: preview and dataset_report."""

from __future__ import annotations

from absl import flags

from jaxvision.cli.errors import require
from jaxvision.cli.experiments import chosen
from jaxvision.cli.flags import Argv, define_fields, define_places, given, parse, require_no_words
from jaxvision.config import FIELDS, Config
from jaxvision.plugins import load_plugins

PREVIEWED = ("dataset", "augment", "seed", "split_seed", "on_bad_image")  # the fields that decide what is shown
REPORTED = ("dataset", "split_seed", "validation_fraction")


def _define_preview(values: flags.FlagValues) -> None:
    define_fields(values, {name: FIELDS[name] for name in PREVIEWED})
    define_places(values)
    flags.DEFINE_string("experiment", None, "file or name of an experiment; flags change it", flag_values=values)
    flags.DEFINE_integer("num_images", 6, "rows: examples of train", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("num_versions", 7, "augmented versions of each", lower_bound=1, flag_values=values)
    flags.DEFINE_string("out", "preview.png", "where the picture is written", flag_values=values)


def preview(argv: Argv) -> None:
    """Show what augments do: jaxvision preview --dataset=cifar10 --augment='flip, crop' [--out=preview.png]"""
    from jaxvision.preview import preview as run_preview

    values, rest = parse("preview", preview.__doc__ or "", _define_preview, argv)
    require_no_words("preview", rest)
    file = run_preview(
        chosen(values).config.replace(**given(values, PREVIEWED)),
        file=values.out,
        num_images=values.num_images,
        num_versions=values.num_versions,
        data_dir=values.data_dir,
    )
    print(f"wrote {file}")


def _define_report(values: flags.FlagValues) -> None:
    define_fields(values, {name: FIELDS[name] for name in REPORTED})
    define_places(values)
    flags.DEFINE_string("out", "dataset_report", "folder for report.json and pictures", flag_values=values)


def dataset_report(argv: Argv) -> None:
    """Look at data before training: jaxvision dataset_report --dataset="folder(path='photos')" [--out=FOLDER]"""
    from jaxvision.dataset_report import dataset_report as run_report
    from jaxvision.dataset_report import text

    values, rest = parse("dataset_report", dataset_report.__doc__ or "", _define_report, argv)
    require_no_words("dataset_report", rest)
    require(given(values, ["dataset"]), "dataset_report needs --dataset=…, as for launch")
    load_plugins(values.plugins)
    config = Config().replace(**given(values, REPORTED))
    print(text(run_report(config, folder=values.out, data_dir=values.data_dir)))
    print(f"report and pictures in {values.out}")
