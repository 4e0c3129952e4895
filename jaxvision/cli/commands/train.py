"""The command train, and its alias launch."""

from __future__ import annotations

from jaxvision.cli.command import command
from jaxvision.cli.experiments import Experiment
from jaxvision.distributed import multihost


@command("launch", group="Other", fields=None, resumes=True, is_distributed=True)
@command(group="Train", fields=None, resumes=True, is_distributed=True)
def train(
    experiment: Experiment, *, workdir: str | None = None, data_dir: str | None = None, profile: bool = False
) -> None:
    """Train a model, then evaluate the checkpoint that counts on the test split.

    Args:
        workdir: folder of the run; a run in it is resumed with its settings (default: a new one in workdirs/)
        data_dir: folder of TensorFlow Datasets (default: ~/tensorflow_datasets)
        profile: write a JAX profile of a few steps into the workdir

    Examples:
        jaxvision train --model=cnn --dataset=cifar10 --workdir=runs/first
        jaxvision train --workdir=runs/first
        jaxvision train --dataset="folder(path='photos')" --batch_size=32
        jaxvision train --dataset="folder(path='photos')" --batch_size=32 --model=resnet18 --init_from=pretrained
    """
    from jaxvision import reports
    from jaxvision.train import train as run_train

    result = run_train(
        experiment.config,
        execution=experiment.execution,
        workdir=workdir,
        data_dir=data_dir or experiment.data_dir,
        plugins=experiment.plugins,
        profile=profile,
    )
    report = result.test or result.validation
    if report is not None and multihost.is_main_process():
        print(f"\n{reports.text(report)}\nreport and plots in {reports.folder_of(result.workdir, report)}")
        print(f"{reports.split_name(report['split'])} {reports.headline(report)}")
