"""Measure training, inference, startup, epochs from disk and reading against PyTorch and Keras: docs/benchmarks.md."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from absl import flags
from benchmarks import table
from benchmarks.measure import SECTIONS, measure
from script_flags import parse, require_no_words

from jaxvision.cli.errors import UsageError, run_command
from jaxvision.specs import nearest


def main(argv: Sequence[str]) -> None:
    """Measure our speed against PyTorch's and Keras's: python scripts/benchmark.py [--quick] [--only=train,epoch]"""

    def define(values):
        flags.DEFINE_bool("quick", False, "measure two networks in few rounds, in minutes", flag_values=values)
        flags.DEFINE_list("only", list(SECTIONS), "sections to measure, separated by commas", flag_values=values)
        flags.DEFINE_string("json", None, "JSON file for the rows", flag_values=values)
        help = "Markdown file for the table, written between its marks if it has them"
        flags.DEFINE_string("markdown", None, help, flag_values=values)
        help = "folder of TensorFlow Datasets with cifar10 (default: theirs)"
        flags.DEFINE_string("data_dir", None, help, flag_values=values)
        flags.DEFINE_string("images", None, "folder of photographs to read, train/<class>/…", flag_values=values)

    values, rest = parse("scripts/benchmark.py", main.__doc__ or "", define, argv)
    require_no_words("scripts/benchmark.py", rest)
    for name in values.only or [""]:
        if name not in SECTIONS:
            near = nearest(name, SECTIONS)
            raise UsageError(f"unknown section {name!r}{near}; the sections are {', '.join(SECTIONS)}")
    table.check_files(values.json, values.markdown)
    options = {"data_dir": values.data_dir, "images": values.images}
    found = measure(quick=values.quick, sections=values.only, **options)
    print("\n".join(found.notes))
    if values.json:
        table.write_json(found, values.json)
    if values.markdown:
        table.write_markdown(found, values.markdown, command=shlex.join(["python", "scripts/benchmark.py", *argv]))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], "scripts/benchmark.py"))
