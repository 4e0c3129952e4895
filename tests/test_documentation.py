"""README and docs: their Python runs, their commands parse, their links exist, and no registered name is missing."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from conftest import make_photos

from jaxvision import registry, specs
from jaxvision.cli.command import commands
from jaxvision.cli.experiments import find_experiment
from jaxvision.cli.flags import define, parse_flags

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
NOT_RUN = ("plugins.md", "benchmarks.md", "scaling.md", "clusters.md")  # their Python blocks, if any
EXECUTED = ("plugins.md",)  # whose commands test_plugin_docs.py runs
ALIASES = {"launch.py": "train"}  # scripts that are a command
FOREIGN = ("--signal", "--kill-on-bad-exit", "--ntasks-per-node", "--gpus-per-task", "--command")  # of SLURM and gcloud
COMMAND = re.compile(r"(?:^|\s)(?:python3? -m )?(jaxvision|python3? scripts/\w+\.py)(\s.*|$)")


def blocks(page, language):
    """Return the fenced code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def documented_commands(page):
    """Return the command lines in the sh blocks of a page, as (program, arguments)."""
    found = []
    for block in blocks(page, "sh"):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            for part in re.split(r"\s&&\s|;\s", line.partition("#")[0]):
                match = COMMAND.search(part)
                if match:
                    program, rest = match[1].split()[-1].rpartition("/")[2], match[2].strip()
                    found.append((program, shlex.split(rest.removesuffix("'") if rest.count("'") % 2 else rest)))
    return found


def check_command(name, arguments):
    """Raise if a command does not exist, lacks one of the flags, or a spec in them is not valid."""
    command, values = commands()[name], flags.FlagValues()
    define(command, values)
    words = parse_flags(name, values, arguments)
    assert not words or any(each.is_positional for each in command.arguments), f"{name} takes no words: {words}"
    check_specs(values)


def check_specs(values):
    """Raise if a spec in the flags names nothing that is registered, or has an argument that is not there."""
    for each in registry.REGISTRIES.values():
        value = values[each.field].value if each.field in values else None
        for spec in specs.parse_list(value or ""):
            if spec.name in each.names() or not values.plugins:
                each.check(spec)
    if "experiment" in values and values.experiment:
        written = {name for page in PAGES for name in re.findall(r"`experiments/(\w+)\.py`", page.read_text())}
        if values.experiment not in written:  # by a page
            find_experiment(values.experiment)


def is_accepted(name, words):
    """Return whether a command takes the words."""
    try:
        check_command(name, words)
    except (ValueError, TypeError):
        return False
    return True


@functools.cache
def flags_of_commands():
    """Return the names of the flags of each command."""
    found = {name: flags.FlagValues() for name in commands()}
    for name, values in found.items():
        define(commands()[name], values)
    return {name: set(values) for name, values in found.items()}


def flag_names(words):
    """Return the names of the flags among words."""
    return {word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")}


@functools.cache
def script_help(name):
    """Return the help of a script."""
    code = [sys.executable, str(ROOT / "scripts" / name), "--help"]
    return subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_python(code, folder):
    """Run code in a folder that has the data which the pages name, in a process of its own."""
    make_photos(folder / "photos")
    (folder / "blocks.py").write_text(code)
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "blocks.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_readme_is_one_page():
    assert len(README.read_text().splitlines()) <= 150


def test_the_readme_has_the_two_commands():
    lines = README.read_text().splitlines()
    assert "python3 -m pip install -e . && python3 scripts/launch.py --experiment=digits" in lines
    assert next(line for line in lines if line.endswith("pytest")).startswith("python3 -m pip install -e '.[test]'")


WITH_PYTHON = [page for page in PAGES if page.name not in NOT_RUN and blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path):
    done = run_python("\n".join(blocks(page, "python")), tmp_path)
    assert done.returncode == 0, done.stderr
    assert page != README or "workdirs/digits-cnn" in done.stdout


def test_the_readmes_model_trains(tmp_path):
    code = blocks(README, "python")[-1]
    assert sum(map(bool, code.splitlines())) <= 13
    assert "--plugins=my_models.py --model='small(width=64)' --dataset=digits" in "".join(blocks(README, "sh"))
    (tmp_path / "my_models.py").write_text(code)
    words = ["train", "--plugins=my_models.py", "--model=small(width=8)", "--dataset=digits", "--steps=2"]
    done = subprocess.run(
        [sys.executable, "-m", "jaxvision", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "test accuracy" in done.stdout, done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in EXECUTED], ids=lambda page: page.name)
def test_commands_parse(page):
    for program, arguments in documented_commands(page):
        if program in ALIASES:
            check_command(ALIASES[program], arguments)
        elif program.endswith(".py"):
            for flag in [word.partition("=")[0] for word in arguments if word.startswith("--")]:
                assert flag in script_help(program), f"{program} has no flag {flag}"
        elif not arguments[0].startswith("-"):
            check_command(arguments[0], arguments[1:])


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "guide.md"], ids=lambda page: page.name)
def test_batches_of_folders_fit_60_photos(page):
    """After a fifth for testing and a tenth of the rest for validation, 43 of them are left for training."""
    for program, arguments in documented_commands(page):
        if program == "jaxvision" and arguments[0] == "train" and "folder(" in "".join(arguments):
            sizes = [int(word.partition("=")[2]) for word in arguments if word.startswith("--batch_size=")]
            assert sizes and sizes[0] <= 43, arguments


def test_commands_are_found_in_the_pages():
    found = {page.name: [arguments[:1] for _, arguments in documented_commands(page)] for page in PAGES}
    assert ["predict"] in found["README.md"] and ["sweep"] in found["guide.md"] and len(found["clusters.md"]) == 4


@pytest.mark.parametrize("command", ["train --augmentations=flip", "train --lr=1", "predict --split=test", "export x"])
def test_a_wrong_command_is_noticed(command):
    with pytest.raises((ValueError, AssertionError)):
        check_command(command.split()[0], command.split()[1:])


def flags_in_prose(page):
    """Return the code in the last columns of tables and in the text that is made of flags with values."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^> .*$", "", text, flags=re.MULTILINE)  # messages, which name what is wrong
    if page.name == "migrating.md":  # the other columns are of other tools
        text = "\n".join(line.split(" | ")[-1] for line in text.splitlines() if line.startswith("|"))
    found = re.findall(r"`(--[\w-]+=[^`]+)`", text)
    return [code for code in found if not set("…$") & set(code) and not code.startswith(FOREIGN)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_in_the_text_exist(page):
    if page.name in ("benchmarks.md", "scaling.md", "plugins.md"):
        pytest.skip("its flags are of scripts and of plug-ins")
    for code in flags_in_prose(page):
        words = shlex.split(code)
        fitting = [name for name, own in flags_of_commands().items() if flag_names(words) <= own]
        assert any(is_accepted(name, words) for name in fitting), f"no command takes {code}"


def test_all_registered_names_are_documented():
    text = README.read_text() + (ROOT / "docs" / "guide.md").read_text()
    for each in registry.REGISTRIES.values():
        for name in each.names():
            if each.entry(name).factory.__module__.startswith("jaxvision."):
                assert f"`{name}" in text, f"neither README nor guide names the {each.kind} {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), f"{page.name} links to {place}, which does not exist"
        assert not anchor or anchor in anchors(target), f"{page.name} links to #{anchor}, no heading of {target.name}"
