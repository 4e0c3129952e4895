"""The commands in README and docs run, in the order of each page, on tiny data.

docs/plugins.md is left out: tests/test_plugin_docs.py runs its commands. The tables below state what is changed to make
a command small, which commands are not run, and why.
"""

import contextlib
import csv
import glob
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_photos
from PIL import Image

from jaxvision.cli import main

PAGES = {page.name: page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
del PAGES["plugins.md"]
QUICK = ("benchmarks.md", "limits.md", "results.md", "scaling.md")  # the others are marked slow

MNIST = "synthetic(num_examples=80, image_size=28, channels=1)"
CIFAR10 = "synthetic(num_examples=80, image_size=32)"
SHELL = "the shell around a command; no part of jaxvision"
MINUTES = "takes minutes or more"
INSTALLS = "installs packages or runs all tests; tests/test_documentation.py checks the line"
NAME = "names the command in a sentence; the guide has it with its flags"
SKIPPED = {  # a regular expression for whole commands: why they are not run, and the test that covers them
    r"(python3 -m )?pip install .*": INSTALLS,
    r"python3 -m venv \.venv|\. \.venv/bin/activate": INSTALLS,
    r"python3 -m pytest( -m slow .*)?": INSTALLS,
    r"(cd|source|export|exit|status=|if \[|then scontrol|fi|gcloud)\b.*|status=\$\?|if \[ .*|exit \$status": SHELL,
    r"python scripts/benchmark\.py.*|jaxvision benchmark .*": f"{MINUTES}; tests/test_benchmarks.py",
    r"python scripts/crash_test\.py.*": f"{MINUTES}; tests/test_crash_test.py",
    r"python scripts/crash_commands\.py": f"{MINUTES}; tests/test_crash_commands.py",
    r"python scripts/numerics\.py": f"{MINUTES}; tests/cases/test_definitions.py and test_preprocessing.py",
    r"python scripts/explanation_checks\.py.*": f"{MINUTES}; tests/test_explanation_checks.py",
    r"python scripts/explanation_parity\.py": f"{MINUTES}; tests/test_explanation_parity.py",
    r"python -m jaxvision": f"{NAME}; tests/test_documentation.py",
    r"jaxvision (train|evaluate|explain|sweep|dataset_report|finetune)": NAME,
    r"jaxvision export --format=timm": "lacks the workdir and the folder; the guide has the whole command",
}
REPLACED = {  # for all pages, first to last
    "--model=efficientnet_lite0 --init_from=pretrained": "--model=resnet18 --init_from=weights",
    " finetune --dataset": " finetune --model=resnet18 --init_from=weights --minutes=0.02 --dataset",
    "--minutes=30 ": "",
    "--init_from=pretrained": "--init_from=weights",  # made by PREPARED; no network
    "--model=resnet50 --init_from": "--model=resnet18 --init_from",  # small, and export to timm knows it
    "--model=resnet50": "--model=resnet20",
    "--model=dcgan": "--model='dcgan(width=8)'",
    "sweep --experiment=my_sweep": "sweep --experiment=small",  # two configurations, which make_data writes
    "(path='photos')": "(path='photos', image_size=32)",
    "image_size=128": "image_size=32",
    "image_size=224": "image_size=32",
    "--dataset=mnist": f"--dataset='{MNIST}'",
    "--dataset='cifar10(per_class=1000)'": f"--dataset='{CIFAR10}'",
    "--dataset=cifar10": f"--dataset='{CIFAR10}'",
    "--experiment=cifar10_cnn": f"--experiment=cifar10_cnn --dataset='{CIFAR10}'",
    "--epochs=60": "--epochs=2",
    "--num_trials=20 --seeds=3": "--num_trials=2 --seeds=2",
    "--folds=5": "--folds=2",
    "/mnt/shared/": "shared/",
    "/shared/": "shared/",
    "$USER/$SLURM_JOB_NAME-$SLURM_JOB_ID": "user/resnet50-1",
    "--num_processes=2 --process_id=1": "--num_processes=2 --process_id=0",  # alone, as all get --num_processes=1
    "'resnet*'": "resnet18",
    "COMMAND": "train",
    "RUN new": "runs/a new_photos",
}
PHOTOS = "--dataset=\"folder(path='photos')\""
PRETRAINED = (f"jaxvision train --model=resnet18 {PHOTOS} --workdir=runs/weights",)
PRETRAINED += ("jaxvision export --workdir=runs/weights --folder=weights",)
PREPARED = {  # commands that make what the commands of a page expect
    "README.md": PRETRAINED,
    "guide.md": (*PRETRAINED, *(f"jaxvision train {PHOTOS} --seed={n} --workdir=runs/seed{n}" for n in range(3))),
    "migrating.md": (f"jaxvision train {PHOTOS} --workdir=runs/a",),
    "troubleshooting.md": (f"jaxvision train {PHOTOS} --workdir=runs/a",),
}


def commands_of(text):
    """Return the commands of a page in its order: those of its sh blocks, and programs with arguments in its text."""
    text = re.sub(r"^> .*$", "", text, flags=re.MULTILINE)  # messages
    found = []
    for block, code in re.findall(r"^```(.*?)^```|`((?:jaxvision|python3?) [^`]+)`", text, re.DOTALL | re.MULTILINE):
        language, _, lines = block.partition("\n")
        lines = re.sub(r"\\\n\s*", "", lines) if language == "sh" else code.replace("\n", " ")
        for line in lines.splitlines():
            parts = re.split(r"\s&&(?:\s|$)|;\s", line.partition("#")[0])
            found += [part.strip() for part in parts if part.strip()]
    return found


def reason_to_skip(command):
    """Return why a command is not run, or "" if it is run."""
    return next((reason for pattern, reason in SKIPPED.items() if re.fullmatch(pattern, command)), "")


def tiny(command):
    """Return the arguments of a command, the program first, after the replacements and with the flags for little work.

    Raises ValueError for a command that is of no known program and not in SKIPPED.
    """
    match = re.fullmatch(
        r"(?:srun \S+ |exec )?(?:python3? )?(jaxvision|scripts/(?:launch|scaling|parity)\.py)(.*)", command
    )
    if not match:
        raise ValueError(f"{command!r} is neither run nor listed in SKIPPED")
    rest = match[2].removesuffix("'") if match[2].count("'") % 2 else match[2]  # the end of gcloud's --command
    for old, new in REPLACED.items():
        rest = rest.replace(old, new)
    words = shlex.split(rest)
    words = [name for word in words for name in (sorted(glob.glob(word)) if "*" in word else [word])]
    if match[1] == "scripts/launch.py":
        words += [*less_work(words), "--num_processes=1"]
    elif words[:1] in (["train"], ["sweep"]) and "--help" not in words:
        words += [*less_work(words), "--mesh=data=1"]
    return [match[1], *words]


def less_work(words):
    """Return the flags that shorten a run. A run that resumes without a dataset keeps its settings."""
    has_own_data = any(word.startswith("--dataset=") and "(" in word for word in words)
    if has_own_data:
        return ["--batch_size=8", "--epochs=1"]
    workdir = next((word[10:] for word in words if word.startswith("--workdir=")), "")
    return [] if workdir and Path(workdir).exists() else ["--batch_size=8", "--steps=2"]


def run_words(words):
    """Run a program with its arguments and return its exit status and all it printed. Plug-ins get an own process."""
    program, arguments = words[0], words[1:]
    if any(word.startswith("--plugins=") for word in arguments):
        code = [sys.executable, "-m", program, *arguments]
        done = subprocess.run(code, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr
    printed, status = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main() if program == "jaxvision" else runpy.run_path(str(ROOT / program), run_name="__main__")
            except SystemExit as error:
                status = error.code or 0
    return status, printed.getvalue()


def run_page(text, prepared=()):
    """Run all commands of a page in the current folder, each to exit status 0, and return those that ran."""
    done = []
    for command in [*prepared, *commands_of(text)]:
        if reason_to_skip(command) or (command.startswith("python scripts/parity.py") and not has_originals()):
            continue
        words = tiny(command)
        status, printed = run_words(words)
        assert status == 0, f"{command}\nran as {shlex.join(words)}\nand ended with {status}:\n{printed}"
        done.append(command)
    return done[len(prepared) :]


def has_originals():
    """Return whether the extra `parity` is installed."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("torch", "torchvision", "timm"))


def write_table(path, rows):
    """Write rows, the header first, as a .csv file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def make_data(folder):
    """Write the files that the pages name: images in classes and splits, tables of them, a series and a plug-in."""
    make_photos(folder / "all")
    make_photos(folder / "photos_of_june")
    for path in sorted((folder / "all").glob("*/*.png")):
        part = "train" if int(path.stem) < 12 else "validation" if int(path.stem) < 16 else "test"
        for place in (folder / "photos", folder / "shared" / "products", folder / "shared" / "data" / "products"):
            (place / part / path.parent.name).mkdir(parents=True, exist_ok=True)
            (place / part / path.parent.name / path.name).write_bytes(path.read_bytes())
    (folder / "new_photos").mkdir()
    (folder / "images").mkdir()
    files = sorted((folder / "all").glob("*/*.png"))
    for index, path in enumerate(files):
        Image.open(path).save(folder / "images" / f"{index}.jpg")
    for index in (0, 30):
        Image.open(files[index]).save(folder / "new_photos" / f"{index}.jpg")
    kinds = [(index, ("hat", "shoe")[index // 20], ("summer", "winter")[index % 2]) for index in range(len(files))]
    write_table(folder / "shop.csv", [("id", "kind", "season"), *kinds])
    scores = [(f"images/{index}.jpg", index / 10) for index in range(len(files))]
    write_table(folder / "scores.csv", [("file", "score"), *scores])
    months = np.arange(120)
    air = 100 + months + 20 * np.sin(2 * np.pi * months / 12)
    write_table(folder / "air.csv", [("month", "passengers"), *zip(months, air.round(1), strict=True)])
    space = "SEARCH_SPACE = {'learning_rate': (1e-3, 1e-2)}"
    (folder / "experiments").mkdir()
    (folder / "experiments" / "small.py").write_text(
        f"from jaxvision import Config\n\nCONFIG = Config(model='mlp')\n{space}\n"
    )
    code = re.findall(r"^```python\n(.*?)^```", PAGES["README.md"].read_text(), re.DOTALL | re.MULTILINE)[-1]
    (folder / "my_models.py").write_text(code)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with the data."""
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PAGES]
)
def test_the_commands_of_a_page_run(name, place):
    text = PAGES[name].read_text()
    done = run_page(text, PREPARED.get(name, ()))
    assert done or all(map(reason_to_skip, commands_of(text))), f"no command of {name} ran"


def test_all_commands_are_run_or_listed(place):
    commands = [command for page in PAGES.values() for command in commands_of(page.read_text())]
    run = [tiny(command) for command in commands if not reason_to_skip(command)]
    assert len(run) > 40 and {"train", "evaluate", "predict", "sweep", "export"} <= {
        word for words in run for word in words[1:2]
    }
    unused = [p for p in SKIPPED if not any(re.fullmatch(p, command) for command in commands)]
    assert not unused, f"no page has {unused}"
    text = "\n".join([*commands, *(command for each in PREPARED.values() for command in each)])
    assert all(old in text for old in REPLACED), [old for old in REPLACED if old not in text]


@pytest.mark.parametrize(
    "command",
    [
        "jaxvision train --lr=1",
        "jaxvision predict --workdir=runs/none photos",
        "python scripts/scaling.py --mode=none",
        "python scripts/other.py",
        "jaxvisoin train",
    ],
)
def test_a_broken_command_is_noticed(command, place):
    with pytest.raises((AssertionError, ValueError), match=re.escape(command)):
        run_page(f"A page:\n\n```sh\njaxvision --version\n{command}\n```\n")


def test_a_status_other_than_0_is_reported_with_the_message(place):
    status, printed = run_words(["jaxvision", "train", "--model=resnet81"])
    assert status == 2 and "unknown model 'resnet81'" in printed
    assert os.listdir(place) and not (place / "workdirs").exists()
