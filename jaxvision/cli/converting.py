"""The command convert: a run's weights as a folder that timm loads."""

from __future__ import annotations

from absl import flags

from jaxvision.cli.errors import require
from jaxvision.cli.flags import Argv, define_places, parse, require_no_words


def _define_convert(values: flags.FlagValues) -> None:
    define_places(values)
    flags.DEFINE_string("workdir", None, "folder of the trained run", flag_values=values)
    flags.DEFINE_string("folder", None, "where model.safetensors and config.json are written", flag_values=values)


def convert(argv: Argv) -> None:
    """Write a run's weights as timm's: jaxvision convert --workdir=runs/first --folder=FOLDER"""
    from jaxvision.convert import convert as run_convert

    values, rest = parse("convert", convert.__doc__ or "", _define_convert, argv)
    require_no_words("convert", rest)
    require(values.workdir, "convert needs --workdir=…, the folder of a trained run")
    require(values.folder, "convert needs --folder=…, where to write")
    place = run_convert(values.workdir, values.folder, plugins=values.plugins)
    print(f"wrote {place / 'model.safetensors'} and config.json")
    print(f"timm.create_model({f'local-dir:{place}'!r}, pretrained=True) loads them")
