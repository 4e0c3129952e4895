"""The command fewshot."""

from __future__ import annotations

import json
from typing import Literal

from jaxvision.cli.command import command, option
from jaxvision.cli.errors import UsageError
from jaxvision.cli.experiments import Experiment
from jaxvision.cli.tables import print_rows
from jaxvision.fewshot import fewshot as run_fewshot
from jaxvision.fewshot import tables


@command(
    group="Look at data",
    fields=("dataset", "model", "init_from", "split_seed", "on_bad_image", "max_image_pixels"),
    required=("dataset",),
)
def fewshot(
    experiment: Experiment,
    *,
    shots: str = ",".join(map(str, option(run_fewshot, "shots"))),
    seeds: int = option(run_fewshot, "seeds"),
    classifiers: str = ",".join(option(run_fewshot, "classifiers")),
    ways: int | None = option(run_fewshot, "ways"),
    episodes: int = option(run_fewshot, "episodes"),
    queries: int = option(run_fewshot, "queries"),
    out: str = option(run_fewshot, "out"),
    data_dir: str | None = option(run_fewshot, "data_dir"),
    format: Literal["table", "json"] = "table",
) -> None:
    """Classify with few images of each class, by features of pretrained weights.

    Args:
        shots: numbers of training images of each class, separated by commas
        seeds: draws of training images for each number
        classifiers: classifiers, separated by commas
        ways: classes in an episode; adds a table of episodes (default: none)
        episodes: number of episodes
        queries: images of each class that an episode predicts
        out: folder of fewshot.json and the plots
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)
        format: output format, table or json

    Examples:
        jaxvision fewshot --dataset="folder(path='photos')"
        jaxvision fewshot --dataset="folder(path='photos')" --init_from=runs/first --shots=1,10
        jaxvision fewshot --dataset="folder(path='photos')" --ways=5 --shots=1,5
    """
    report = run_fewshot(
        experiment.config,
        shots=_numbers(shots),
        seeds=seeds,
        classifiers=[name.strip() for name in classifiers.split(",")],
        ways=ways,
        episodes=episodes,
        queries=queries,
        out=out,
        data_dir=data_dir,
        plugins=experiment.plugins,
    )
    if format == "json":
        print(json.dumps(report, indent=2))
        return
    print(f"{report['num_features']:,} features of {report['model']} ({report['weights']})")
    for heading, rows in tables(report):
        print(f"\n{heading}")
        print_rows(rows)
    print("\n" + "\n".join([*report["notes"], f"report and plots in {out}"]))


def _numbers(text: str) -> list[int]:
    """Return the whole numbers of a flag. Raises UsageError for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--shots={text} is not whole numbers, separated by commas, as in --shots=1,5,10")
    return [int(word) for word in words]
