"""The examples in the help of the commands are commands that exist, with flags that exist."""

import shlex
from pathlib import Path

import pytest
from absl import flags
from conftest import make_photos

from jaxvision import cli
from jaxvision.cli.command import commands
from jaxvision.cli.experiments import find_experiment
from jaxvision.cli.flags import define, help_text, parse_flags

EXAMPLES = [(name, line) for name, command in commands().items() for line in command.examples]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_parses(name, line):
    program, command, *argv = shlex.split(line)
    assert program == "jaxvision" and commands()[command].function is commands()[name].function
    values = flags.FlagValues()
    define(commands()[command], values)
    parse_flags(command, values, argv)
    if "experiment" in values and values.experiment:
        find_experiment(values.experiment)


SMALL = [argv for _, line in EXAMPLES if (argv := shlex.split(line))[1] == "train" and "folder(" in line]


@pytest.mark.parametrize("argv", SMALL)
def test_the_examples_with_a_folder_train_on_60_photos(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photos(Path("photos"), num_images=30)
    tiny = ["--model=mlp(hidden=())", "--init_from=None", "--steps=1", "--workdir=run"]
    assert cli.run("train", [*argv[2:], *tiny]) == 0


def test_every_command_has_examples_and_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in commands().values():
        assert command.examples, command.name
        wide = [
            line for line in help_text(command).splitlines() if len(line) > 80 and not line.startswith("  jaxvision")
        ]
        assert not wide, wide


def test_every_setting_is_in_one_group():
    from jaxvision.cli.flags import GROUPS, SETTINGS

    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(SETTINGS)
