"""The command line: invalid input produces one line on stderr and exit status 2, and writes nothing."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_flags import define_fields, parse, require_no_words

import jaxvision as jv
from jaxvision import cli, plugins, registry
from jaxvision.cli import command as commands
from jaxvision.cli import errors, flags
from jaxvision.config import fields_of
from jaxvision.interfaces import Preprocessing, TargetStats
from jaxvision.workdir import Signature

DATA = "--dataset=synthetic(num_examples=60, num_classes=3, image_size=20)"
SETTINGS_FILES = ((jv.Config, "config.json"), (jv.Execution, "execution.json"))
TINY = [DATA, "--model=mlp(hidden=(8,))", "--steps=2", "--batch_size=20"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Runs below a folder of its own, so that what is written shows."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs a command that must be refused in one line, leaving nothing behind; gives the line."""

    def run(verb, *argv, prints=""):
        before = sorted(tmp_path.rglob("*"))
        status = cli.run(verb, list(argv))
        said = capsys.readouterr()
        assert status == 2, said
        assert said.err.count("\n") == 1 and said.err.startswith("jaxvision: "), said.err
        assert "Traceback" not in said.err and said.out == prints
        assert sorted(tmp_path.rglob("*")) == before
        return said.err

    return run


BAD_FLAGS = {
    "--model=cn": "unknown model 'cn'; did you mean 'cnn'",
    "--dataset=digit": "unknown dataset 'digit'; did you mean 'digits'",
    "--optimizer=adamm": "unknown optimizer 'adamm'; did you mean",
    "--schedule=cosin": "unknown schedule 'cosin'; did you mean 'cosine'",
    "--task=binry": "unknown task 'binry'; did you mean 'binary'",
    "--augmentations=horizontal_flip,crap": "unknown augmentation 'crap' (`jaxvision list",
    "--augmentations=mixup(alpha=0.0)": "mixup: alpha=0.0; expected a parameter of the beta distribution",
    "--modle=cnn": "unknown flag --modle; did you mean --model?",
    "--batch_size=many": "batch_size",
    "--batch_size=0": "batch_size=0 must be at least 1",
    "--batch_size=-4": "batch_size=-4 must be at least 1",
    "--batch_size=100": "and there are only 42 training examples: use --batch_size=32",
    "--batch_size=18": "batch_size=18 is not divisible by 4 devices; the nearest are 16 or 20",
    "--epochs=0": "epochs=0 must be at least 1",
    "--learning_rate=-1": "learning_rate=-1.0 must be above 0",
    "--validation_fraction=1.5": "validation_fraction=1.5 must be at least 0 and below 1",
    "--on_bad_image=ignore": "--on_bad_image=ignore is not one of error, skip",
    "--sampling=balance": "is not one of shuffled, balanced; did you mean 'balanced'?",
    "--task=multiclass(loss=cross_entropy(class_weights='balancd'))": "; did you mean 'balanced'?; expected",
    "--task=binary(threshold=('recal', 0.9))": "; did you mean 'recall'?; expected",
    "--task=multiclass(best='macro')": "is not one of 'accuracy', 'macro_recall', 'loss'; expected",
    "--model=mlp(hiden=(3,))": "no argument 'hiden'; did you mean 'hidden'?; expected mlp(hidden=(512, 512)",
    "--model=mlp(hidden='x')": "hidden='x' is not of type tuple[int, ...]",
    "--model=mlp(hidden=(2, 'x'))": "is not of type tuple[int, ...]",
    "--seed=-1": "seed=-1 must be at least 0",
    "--max_to_keep=0": "max_to_keep=0 must be at least 1",
    "--tta=flip_shft": "is not one of none, flip, flip_shift; did you mean 'flip_shift'",
    "--model=mlp(hidden=(2.5,))": "is not of type tuple[int, ...]",
    "--model=mlp(hidden=__import__('os').getpid())": "specs execute no code",
    "--model=mlp(": "cannot parse 'mlp('",
    "--model=mlp(hidden=(-1,))": "hidden=(-1,)",
    "--model=cnn(dense=-5)": "dense=(-5,)",
    "--model=cnn(padding='VALIT')": "is not one of 'VALID', 'SAME'; did you mean 'VALID'?",
    "--optimizer=adam(b1=5.0)": "b1=5.0; expected at least 0 and below 1",
    "--optimizer=sgd(momentum=-1.0)": "momentum=-1.0; expected at least 0 and below 1",
    "--dataset=digits(image_size=0)": "image_size=0; expected at least 1 pixel",
    "--dataset=digits(test_fraction=1.5)": "cannot hold out a fraction of 1.5; expected one above 0 and below 1",
    "--dataset=synthetic(image_size=0)": "expected at least 1 pixel",
    "--epochs=1.5": "--epochs=1.5 is not a whole number",
    "--learning_rate=abc": "--learning_rate=abc is not a number",
    "--model=cnn(dropout=1.5)": "dropout=1.5; expected a probability",
    "--model=cnn(channels=(8, 8, 8, 8))": "images of 20x20 pixels are too small for cnn",
    "--task=binary": "needs two classes; this dataset has 3: use --task=multiclass",
    "--dataset=folder": "dataset 'folder' needs path=",
    "--dataset=folder(path='missing')": "no folder 'missing'",
    "--dataset=arrays(path='missing.npz')": "no file 'missing.npz'",
    "--experiment=nothing": "no experiment 'nothing'",
    "--experiment=digitss": "no experiment 'digitss'; did you mean 'digits'?",
    "model=cnn": "accepts only flags, as in --model=cnn, not 'model=cnn'",
}


@pytest.mark.parametrize("flag", BAD_FLAGS)
def test_bad_input_of_launch(flag, refused):
    assert BAD_FLAGS[flag] in refused("launch", *TINY, flag, "--workdir=run")


def test_the_process_says_one_line_and_exits_with_2(root, tmp_path):
    for command in ([sys.executable, root / "scripts" / "launch.py"], ["jaxvision", "launch"]):
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        done = subprocess.run(
            [*command, "--model=cn"], capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and "did you mean 'cnn'" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_module_and_the_installed_command_do_the_same():
    installed, module = (
        subprocess.run([*command, "list", "models", "c*"], capture_output=True, text=True, check=True).stdout
        for command in (
            [sys.executable, "-c", "from jaxvision.cli import main; main()"],
            [sys.executable, "-m", "jaxvision"],
        )
    )
    assert installed == module and module.startswith("  cnn(channels=(32, 64, 64), dense=64")
    assert "concat_cnn" in module and "mlp" not in module


def test_help_is_light():
    code = """
import sys
from jaxvision.cli import main, run
try:
    main()
except SystemExit as end:
    assert end.code == 0
assert run("launch", ["--help"]) == 0
heavy = {"flax", "orbax", "grain", "sklearn", "matplotlib", "tensorflow_datasets", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_commands(monkeypatch, capsys):
    for argv, status, text in ((["lanch"], 2, "did you mean 'launch'"), (["--help"], 0, "Alias of train")):
        monkeypatch.setattr(sys, "argv", ["jaxvision", *argv])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        assert end.value.code == status and text in said.err + said.out


def test_help_names_every_field(capsys):
    assert cli.run("launch", ["--help"]) == 0
    shown = capsys.readouterr().out
    fields = (*jv.Config.__dataclass_fields__, *jv.Execution.__dataclass_fields__)
    for name in (*fields, "workdir", "data_dir", "plugins", "experiment", "profile"):
        assert f"--{name} " in shown


def test_a_broken_plugin_is_refused(refused, tmp_path):
    (tmp_path / "broken_one.py").write_text("import no_such_thing")
    (tmp_path / "taker.py").write_text(
        "import jaxvision as jv\n@jv.models.register('cnn')\ndef cnn(*, output_size: int): ...\n"
    )
    error = refused("train", *TINY, "--workdir=run", "--plugins=broken_one.py")
    assert "the plugin broken_one.py could not be imported" in error and "no_such_thing" in error
    error = refused("train", *TINY, "--workdir=run", "--plugins=taker.py")
    assert "taker.py:2" in error and "models/cnn.py" in error


@pytest.mark.filterwarnings("always::UserWarning")
def test_the_plugins_of_a_run_only_warn_when_it_is_resumed(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("import jaxvision")
    assert cli.run("train", [*TINY, "--workdir=run", "--plugins=mine.py"]) == 0
    (tmp_path / "mine.py").unlink()
    plugins._loaded_plugins.clear()
    assert cli.run("train", ["--workdir=run"]) == 0
    said = capsys.readouterr()
    assert "already finished" in said.out and "mine.py could not be imported" in said.err


def test_train_resumes_with_the_settings_of_the_run(capsys):
    assert cli.run("train", [*TINY, "--tta=flip", "--save_every=1", "--workdir=run"]) == 0
    assert cli.run("train", ["--workdir=run", "--steps=3"]) == 0
    config, execution = (kind.load(Path("run") / file) for kind, file in SETTINGS_FILES)
    assert (config.model, config.steps) == ("mlp(hidden=(8,))", 3)
    assert (execution.tta, execution.save_every) == ("flip", 1)
    assert "resumes at step 2 of 3 steps" in capsys.readouterr().out


@pytest.mark.parametrize("is_evaluated", [True, False])
def test_a_run_with_more_steps_than_asked_is_named(capsys, is_evaluated):
    longer = [*TINY, "--eval_every=1", "--workdir=run"]
    assert cli.run("train", [*longer, "--steps=4"]) == 0
    assert "run: begins: 4 steps of 20 examples (1.905 epochs)" in capsys.readouterr().out
    if not is_evaluated:  # as after a signal between the save and its evaluation
        (Path("run") / "checkpoints" / "4" / "values.json").unlink()
    assert cli.run("train", [*longer, "--steps=1"]) == 0
    said = capsys.readouterr().out
    assert (
        "run: this run has 4 steps, and the settings ask for 1: nothing is trained, and its checkpoint that counts"
        in said
    )
    assert "to train for less, use another --workdir" in said and "resumes" not in said


def test_one_epoch_is_one(capsys):
    data = (np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3)).astype(np.uint8), np.arange(8) % 2)
    jv.train(
        jv.Config(model="mlp(hidden=(8,))", batch_size=8, epochs=1, validation_fraction=0.0),
        dataset={"train": data, "test": data},
        workdir="run",
    )
    assert "begins: 1 step of 8 examples (1 epoch)" in capsys.readouterr().out


def test_what_evaluations_are_compared_by_cannot_change(refused, capsys):
    assert cli.run("train", [*TINY, "--workdir=run"]) == 0
    capsys.readouterr()
    error = refused("train", "--workdir=run", "--steps=3", "--tta=flip")
    assert "tta='none' in the run, 'flip' now" in error and "--init_from=run --workdir=NEW" in error


def test_a_command_added_by_one_file_is_in_the_help(monkeypatch, capsys):
    known = dict(commands._commands)
    monkeypatch.setattr(commands, "_commands", known)

    @commands.command(group="Other")
    def greet(*names: str, times: int = 2, loudly: bool = False) -> None:
        """Greet people.

        Args:
            names: whom to greet
            times: how often

                greetings can wrap lines
            loudly: shout

        Examples:
            jaxvision greet Ada --times=3
        """
        print([*names] * times, loudly)

    monkeypatch.setattr(sys, "argv", ["jaxvision", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "  greet            Greet people." in capsys.readouterr().out
    assert cli.run("greet", ["--help"]) == 0
    shown = capsys.readouterr().out
    assert "--times                how often greetings can wrap lines (default: 2)" in shown
    assert "jaxvision greet Ada --times=3" in shown and "--loudly" in shown and "NAMES" in shown
    assert cli.run("greet", ["Ada", "--times=1", "--loudly"]) == 0
    assert capsys.readouterr().out == "['Ada'] True\n"
    with pytest.raises(ValueError, match="needs a docstring with help for other"):

        @commands.command()
        def silent(*, other: int = 1) -> None:
            """Do nothing."""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["fit"], "use `jaxvision train`"),
        (["torture"], "use `python scripts/crash_test.py`"),
        (["convert"], "use `jaxvision export --format=timm`"),
        (["zzz"], "unknown command 'zzz'; the commands are"),
    ],
)
def test_commands_of_other_tools(argv, text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jaxvision", *argv])
    with pytest.raises(SystemExit):
        cli.main()
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--lr=1", "use --learning_rate"),
        ("--views=mirrored", "use --tta"),
        ("--augment=flip", "use --augmentations"),
        ("--keep=1", "use --max_to_keep"),
        ("--loss=focal", "multiclass(loss='focal')"),
        ("--optimizer=sam", "use --gradient=sam"),
        ("--dataset=.", "is a path: write --dataset=\"folder(path='.')\""),
        ("--zzz=1", "unknown flag --zzz (jaxvision train --help)"),
        ("--augmentations=crop", "did you mean 'random_crop'"),
        ("--task=multiclass(focal=2.0)", "write multiclass(loss='focal(gamma=2.0)')"),
    ],
)
def test_words_of_other_tools_and_of_version_0_1(flag, text, refused):
    assert text in refused("train", flag)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--image_size=96"], "use --dataset=\"folder(path='photos', image_size=96)\" ("),
        (
            ["--dataset=folder(path='a', image_size=9, channels=1)", "--imgsz=32"],
            "path='a', channels=1, image_size=32)",
        ),
        (["--img_size"], "image_size=…)"),
        (["--dropout=0.5"], "use --model='cnn(dropout=0.5)' ("),
        (["--wd=0.3"], "use --optimizer='adamw(weight_decay=0.3)' ("),
    ],
)
def test_hints_repeat_the_value_that_was_given(flags, text, refused):
    assert text in refused("train", *flags)


@pytest.mark.parametrize("word", ["None", "none"])
def test_none_removes_a_setting(word, tmp_path):
    names = ("augmentations", "freeze", "fold", "mesh", "init_from", "patience")
    (tmp_path / "tuned.py").write_text(
        "import jaxvision as jv\nCONFIG = jv.Config(augmentations='horizontal_flip', init_from='nowhere', fold='1/2')\n"
    )
    flags = ["--experiment=tuned.py", *TINY, *(f"--{name}={word}" for name in names), "--workdir=run"]
    assert cli.run("train", flags) == 0
    config, execution = (kind.load(Path("run") / file) for kind, file in SETTINGS_FILES)
    assert (config.augmentations, config.freeze, config.fold, execution.mesh) == ("", "", "", "")
    assert config.init_from is None and config.patience is None


@pytest.mark.parametrize("flag", [["--plugins=greeter.py"], ["--plugins", "greeter.py"]])
def test_a_plugins_own_command_is_found(flag, tmp_path):
    (tmp_path / "greeter.py").write_text(
        "from jaxvision.cli.command import command\n"
        "@command()\ndef greet() -> None:\n    'Greet.'\n    print('hello')\n"
    )
    words = [sys.executable, "-m", "jaxvision", "greet", *flag]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_the_help_shows_what_is_required(capsys):
    assert cli.run("dataset_report", ["--help"]) == 0
    assert re.search(r"--dataset +dataset spec \(required\)", capsys.readouterr().out)
    assert cli.run("dataset_report", []) == 2
    assert "dataset_report needs --dataset, as for train" in capsys.readouterr().err


def test_fields_are_hinted_at_in_python():
    for name, text in (("learnin_rate", "did you mean 'learning_rate'?"), ("keep", "use max_to_keep, a field of Exec")):
        with pytest.raises(ValueError, match=re.escape(text)):
            jv.Config(**{name: 1})


def test_an_experiment_and_flags_over_it(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from jaxvision import Config\n"
        "CONFIG = Config(model='mlp(hidden=(4,))', dataset='synthetic(num_examples=60, image_size=8)',\n"
        "                steps=3, batch_size=20)"
    )
    assert cli.run("launch", ["--experiment=mine.py", "--steps=2", "--workdir=run"]) == 0
    assert "step 2/2" in capsys.readouterr().out
    assert jv.Config.load(tmp_path / "run" / "config.json").model == "mlp(hidden=(4,))"


def test_flags_change_the_execution_of_an_experiment(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import jaxvision as jv\n"
        "CONFIG = jv.Config(model='mlp(hidden=(4,))', dataset='synthetic(num_examples=60, image_size=8)',\n"
        "                   steps=1, batch_size=20)\n"
        "EXECUTION = jv.Execution(tta='flip', eval_batch_size=8)"
    )
    assert cli.run("launch", ["--experiment=mine", "--eval_batch_size=12", "--max_to_keep=1", "--workdir=run"]) == 0
    execution = jv.Execution.load(tmp_path / "run" / "execution.json")
    assert execution == jv.Execution(tta="flip", eval_batch_size=12, max_to_keep=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("import jaxvision as jv\nCONFIG = jv.Config().replace(modle='cnn')", "no field 'modle'; did you mean 'model'"),
        ("import jaxvision as jv\nCONFIG = jv.Config(batch_size='32')", "batch_size='32' is not a whole number"),
        ("import jaxvision as jv\nCONFIG = jv.Config(modle='cnn')", "no field 'modle'; did you mean 'model'"),
        ("import jaxvision as jv\nCONFIG = jv.Config(tta='one')", "no field 'tta': use tta, a field of Execution"),
        ("import jaxvision as jv\nCONFIG = jv.Config()\nEXECUTION = jv.Execution(kep=1)", "its fields are mesh"),
        ("import jaxvision as jv\nCONFIG = EXECUTION = jv.Config()", "expected jaxvision.Execution(…)"),
        ("X = 1", "has no CONFIG"),
        ("X = 1\nCONFIG = (", "bad.py, line 2: '(' was never closed"),
    ],
)
def test_bad_experiments(content, expected, refused, tmp_path):
    (tmp_path / "bad.py").write_text(content)
    assert expected in refused("launch", "--experiment=bad.py")


def test_an_experiment_that_registers_a_model_and_one_that_cannot_be_imported(tmp_path, refused):
    (tmp_path / "own.py").write_text(
        "import jaxvision as jv\nfrom jaxvision import registry\n"
        "@jv.models.register('own_model')\ndef own_model(*, output_size: int):\n"
        "    return registry.models.build('mlp(hidden=(3,))', output_size=output_size)\n"
        "CONFIG = jv.Config(model='own_model', dataset='synthetic(num_examples=60, image_size=8)',\n"
        "                   steps=1, batch_size=20)"
    )
    assert cli.run("launch", ["--experiment=own", "--workdir=run"]) == 0
    assert str(tmp_path / "own.py") in (tmp_path / "run" / "signature.json").read_text()
    (tmp_path / "lame.py").write_text("import pandas_missing")
    with pytest.raises(ModuleNotFoundError, match="pandas_missing"):
        cli.run("launch", ["--experiment=lame.py"])


def test_bad_folders(refused, photos, tmp_path):
    empty, one, loose = tmp_path / "empty", tmp_path / "one", tmp_path / "loose"
    (one / "cat").mkdir(parents=True)
    empty.mkdir()
    loose.mkdir()
    Image.new("RGB", (9, 9)).save(loose / "a.png")
    for path, expected in ((empty, "no class folders"), (one, "only the class 'cat'"), (loose, "images but no class")):
        assert expected in refused("launch", f"--dataset=folder(path='{path}')")


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_broken_image_is_named_or_skipped(refused, photos, capsys):
    whole = (photos / "dark" / "3.png").read_bytes()
    (photos / "dark" / "3.png").write_bytes(whole[: len(whole) // 2])
    (photos / "light" / "4.png").write_text("no image at all")
    flags = [f"--dataset=folder(path='{photos}', image_size=8)", "--model=mlp(hidden=())", "--batch_size=8"]
    line = refused("launch", *flags)
    assert "dark/3.png" in line and "(and 1 more)" in line and "--on_bad_image=skip" in line
    assert cli.run("launch", [*flags, "--steps=1", "--on_bad_image=skip", "--workdir=run"]) == 0
    said = capsys.readouterr()
    assert "skipped 2 unreadable images, the first: cannot read the image" in said.err
    assert "26 train" in said.out  # 38 less a fifth and then a tenth of each class


@pytest.fixture
def workdir(photos, tmp_path, capsys):
    flags = [f"--dataset=folder(path='{photos}', image_size=8)", "--model=mlp(hidden=())", "--batch_size=8"]
    assert cli.run("launch", [*flags, "--epochs=4", "--workdir=run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("test accuracy 0.") or True
    return tmp_path / "run"


def test_a_workdir_of_another_config(workdir, refused, photos, tmp_path):
    flags = [f"--dataset=folder(path='{photos}', image_size=8)", "--model=mlp(hidden=(3,))", "--batch_size=8"]
    line = refused("launch", *flags, "--workdir=run")
    assert "other settings: model='mlp(hidden=())' in the run, 'mlp(hidden=(3,))' now; use" in line
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    assert "contains files that do not belong to a training run" in refused("launch", *flags, "--workdir=foreign")


def test_evaluate_and_predict_without_a_run(refused, tmp_path):
    assert "evaluate needs the folder of a trained run" in refused("evaluate")
    assert "predict needs --workdir" in refused("predict", "a.png")
    assert "expected the workdir of a training run" in refused("evaluate", "--workdir=nowhere")
    assert "expected the workdir of a training run" in refused("predict", "--workdir=nowhere", "a.png")


def test_evaluate(workdir, refused, capsys):
    assert cli.run("evaluate", ["--workdir=run"]) == 0
    assert "macro mean" in capsys.readouterr().out
    assert "expected one of train, validation, test; did you mean 'test'" in refused(
        "evaluate", "--workdir=run", "--split=tets"
    )


def test_predict_prints_a_table_json_and_csv(workdir, photos, capsys):
    files = [str(photos / "dark" / "0.png"), str(photos / "light" / "1.png")]
    assert cli.run("predict", ["--workdir=run", *files]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 3 and table[0].split() == ["file", "class", "probability", "class_2", "probability_2"]
    assert cli.run("predict", ["--workdir=run", "--format=json", *files]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == files and {row["class"] for row in rows} <= {"dark", "light"}
    assert cli.run("predict", ["--workdir=run", "--format=csv", str(photos)]) == 0
    parsed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(parsed) == 40 and set(parsed[0]) == {
        "file", "prediction", "probability_dark", "probability_light", "error",
    }  # fmt: skip


def test_a_second_workdir_is_not_taken_for_a_folder_of_images(workdir, photos, refused):
    (workdir.parent / "other").symlink_to(workdir)
    error = refused("predict", "--workdir=run", "other", str(photos))
    assert error == "jaxvision: other is a workdir, not images: write --workdir=run --workdir=other\n"


def test_predict_names_what_is_no_image_and_keeps_the_rest(workdir, photos, refused, capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt" in refused("predict", "--workdir=run", "notes.txt")
    assert "no file, folder or pattern 'nothing*.png'" in refused("predict", "--workdir=run", "nothing*.png")
    assert "needs image files" in refused("predict", "--workdir=run")
    assert cli.run("predict", ["--workdir=run", "notes.txt", str(photos / "dark" / "0.png")]) == 2
    said = capsys.readouterr()
    assert "dark/0.png" in said.out and said.err.count("\n") == 1 and "notes.txt" in said.err
    skipping = ["--workdir=run", "--on_bad_image=skip", "notes.txt", str(photos / "dark" / "0.png")]
    assert cli.run("predict", skipping) == 0
    assert "skipped 1 unreadable image:" in capsys.readouterr().err


def test_list(refused, capsys):
    assert "unknown kind 'modle'; did you mean 'models'" in refused("list", "modle")
    assert "no name in models matches 'x*'" in refused("list", "models", "x*")
    assert cli.run("list", []) == 0
    shown = capsys.readouterr().out
    assert all(f"{kind}:" in shown for kind in registry.REGISTRIES)
    assert {"losses", "gradients"} <= registry.REGISTRIES.keys()
    assert "resnet18(stem='imagenet')" in shown and "num_parameters 11,689,512" in shown


def test_list_takes_singular_and_plural_and_lists_experiments(refused, capsys, tmp_path):
    for words in (["models", "cnn"], ["model", "cnn"]):
        assert cli.run("list", words) == 0
        assert capsys.readouterr().out.startswith("  cnn(channels=(32, 64, 64)")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.py").write_text('"""Train on my photos."""\nraise SystemExit("not run")')
    for word in ("experiment", "experiments"):
        assert cli.run("list", [word]) == 0
        shown = capsys.readouterr().out
        assert "  mine\n      Train on my photos.\n" in shown and "  digits\n      Train" in shown
    assert "no name in experiments matches 'digit'; did you mean 'digits'?" in refused("list", "experiments", "digit")


def test_a_bug_in_a_users_factory_keeps_its_traceback_and_what_it_raises_is_told(tmp_path, refused):
    (tmp_path / "factories.py").write_text(
        "import jaxvision as jv\n"
        "@jv.models.register('buggy_factory')\ndef buggy_factory(*, output_size: int):\n    return int('x')\n"
        "@jv.models.register('wary')\ndef wary(*, output_size: int, size: int = 3):\n"
        "    raise ValueError(f'wary: size={size}; wanted 4')\n"
    )
    with pytest.raises(ValueError, match="invalid literal"):
        cli.run("launch", [*TINY, "--model=buggy_factory", "--plugins=factories.py"])
    assert "size=3; wanted 4" in refused("launch", *TINY, "--model=wary", "--plugins=factories.py")


def test_a_bug_in_a_users_model_keeps_its_traceback(tmp_path):
    (tmp_path / "buggy.py").write_text(
        "import jax.numpy as jnp\nimport jaxvision as jv\n"
        "@jv.models.register('buggy')\ndef buggy(*, output_size: int):\n"
        "    '''A model with a bug.'''\n"
        "    return jv.Model(lambda key, x: ({}, {}), lambda p, s, x, *, train, key: (x @ jnp.ones((7, 2)), s))\n"
    )
    with pytest.raises(TypeError):
        cli.run("launch", [*TINY, "--model=buggy", "--plugins=buggy.py", "--workdir=run"])


def test_interrupted_training_says_how_to_go_on(capsys, monkeypatch):
    import signal

    from jaxvision.distributed import compilation

    put = compilation.put_batch

    def interrupting(batch, mesh):
        signal.raise_signal(signal.SIGINT)
        return put(batch, mesh)

    monkeypatch.setattr(compilation, "put_batch", interrupting)
    assert cli.run("launch", [*TINY, "--steps=9"]) == 130
    said = capsys.readouterr().err
    assert "stopped and saved at step 1 of 9" in said and said.count("\n") == 2
    command = said.strip().split("to resume: ")[1]
    assert command.startswith("jaxvision train --workdir=workdirs/")


def test_floats_train_as_well_as_pixels(tmp_path):
    images = np.random.default_rng(0).random((40, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=np.arange(40) % 2)
    assert cli.run("launch", ["--dataset=arrays(path='data.npz')", *TINY[1:], "--batch_size=8", "--workdir=run"]) == 0


def test_what_an_experiment_sets_can_be_taken_back(tmp_path, capsys):
    (tmp_path / "tuned.py").write_text(
        "import jaxvision as jv\n"
        "CONFIG = jv.Config(init_from='nowhere', layer_decay=0.5, steps=1, learning_rate=1e-3)\n"
    )
    flags = [f"--experiment={tmp_path / 'tuned.py'}", "--init_from=None", "--layer_decay=None", "--learning_rate=2e-3"]
    assert cli.run("launch", [*flags, "--model=mlp", f"--workdir={tmp_path / 'run'}"]) == 0
    config = jv.Config.load(tmp_path / "run" / "config.json")
    assert config.init_from is None and config.layer_decay is None and config.learning_rate == 2e-3


def test_any_function_can_be_run_by_the_same_policy(capsys):
    """As the scripts do: their own flags from a dataclass, errors in one line, bugs with their traceback."""

    @dataclass(frozen=True)
    class Setup:
        size: int = field(default=3, metadata={"help": "of what"})
        name: str | None = field(default=None, metadata={"help": "of it"})

    def work(argv):
        fields, hints = fields_of(Setup), {"size": int, "name": str | None}
        values, rest = parse("scripts/work.py", "Work", lambda values: define_fields(values, fields, hints), argv)
        require_no_words("scripts/work.py", rest)
        errors.require(flags.given(values, fields) == {"size": 4, "name": None}, "work needs --size=4 --name=None")

    def told(*argv):
        status = errors.run_command(work, argv, "scripts/work.py")
        return status, capsys.readouterr().err

    assert told("--size=4", "--name=None") == (0, "")
    assert told("--size=5") == (2, "jaxvision: work needs --size=4 --name=None\n")
    assert "did you mean --size? (python scripts/work.py --help)" in told("--sise=4")[1]
    assert "size" in told("--size=x")[1] and "accepts only flags" in told("size")[1]
    with pytest.raises(ValueError, match="invalid literal"):
        errors.run_command(lambda argv: int("x") and None, [], "work")


@pytest.fixture
def two_runs(tmp_path):
    """Two runs on the same data, whose folders have a comma in their names."""
    for seed in (0, 1):
        assert cli.run("train", [*TINY, f"--seed={seed}", "--eval_every=1", f"--workdir=run,{seed}"]) == 0
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "black.png")
    return ["run,0", "run,1"]


def test_evaluate_takes_workdirs_as_words_and_several_are_an_ensemble(two_runs, capsys):
    capsys.readouterr()
    assert cli.run("evaluate", [*two_runs, "--format=json", "--out=both"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["members"]) == set(two_runs) and json.loads(Path("both/report.json").read_text()) == report
    assert cli.run("evaluate", [two_runs[0], f"--workdir={two_runs[1]}"]) == 0
    assert "run,0/report_ensemble/report.json" in map(str, Path().rglob("report.json"))


def test_evaluate_takes_a_checkpoint_and_test_time_augmentation(two_runs, capsys):
    files = {kind: Path("run,0", name) for kind, name in SETTINGS_FILES}
    before = [file.read_text() for file in files.values()]
    reports = {}
    for checkpoint in ("best", "last", "1", "2"):
        capsys.readouterr()
        assert cli.run("evaluate", ["run,0", f"--checkpoint={checkpoint}", "--format=json", "--out=some"]) == 0
        reports[checkpoint] = json.loads(capsys.readouterr().out)
    assert (
        {**reports["last"], "checkpoint": "requested step"} == reports["2"]
        and reports["1"]["step"] == 1
        and reports["best"]["step"] in (1, 2)
    )
    assert reports["1"]["loss"] != reports["2"]["loss"]
    assert cli.run("evaluate", ["run,0", "--checkpoint=2", "--tta=flip", "--format=json", "--out=some"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] != reports["2"]["loss"]
    assert [file.read_text() for file in files.values()] == before
    assert cli.run("evaluate", ["run,0", "--checkpoint=9"]) == 2
    assert "has no checkpoint 9; it has best, last, 1, 2" in capsys.readouterr().err


def test_predict_with_several_runs_is_the_mean(two_runs, capsys):
    def predict(*argv):
        capsys.readouterr()
        assert cli.run("predict", [*argv, "--format=json", "--top=3", "black.png"]) == 0
        row = json.loads(capsys.readouterr().out)[0]
        return {each["class"]: each["probability"] for each in (row, *row["runners_up"])}

    one, other = (predict(f"--workdir={place}") for place in two_runs)
    both = predict(*(f"--workdir={place}" for place in two_runs))
    assert both == pytest.approx({name: (one[name] + other[name]) / 2 for name in one}, rel=1e-6)
    assert predict("--workdir=run,0", "--tta=flip", "--checkpoint=1") != one
    assert cli.run("predict", ["--workdir=run,0", "--format=csv", "--out=table.csv", "black.png"]) == 0
    assert Path("table.csv").read_text().startswith("file,prediction,probability_")


def test_a_run_with_nothing_but_defaults_is_resumed(monkeypatch):
    seen = {}

    def train(config, **options):
        seen.update(config=config, **options)
        raise SystemExit(0)

    folder = Path("run")
    folder.mkdir()
    for kind, file in SETTINGS_FILES:
        kind().save(folder / file)
    preprocessing = Preprocessing((8, 8), 1, (0.0,), (1.0,))
    Signature(("a",), preprocessing, TargetStats("multiclass", 1, (1,)), "data", None, (), {}).save(
        folder / "signature.json"
    )
    monkeypatch.setattr(sys.modules["jaxvision.train"], "train", train)
    assert cli.run("train", ["--workdir=run"]) == 0
    assert seen["config"] == jv.Config() and seen["workdir"] == "run"


def test_a_mistyped_workdir_is_not_a_new_run(refused, capsys):
    assert cli.run("train", [*TINY, "--workdir=photos"]) == 0
    capsys.readouterr()
    error = refused("train", "--workdir=photso")
    assert "there is no run in 'photso' to resume; did you mean 'photos'?" in error


def test_the_name_of_the_file_chooses_the_format(two_runs, capsys):
    for name, begin in (("a.csv", "file,prediction,probability_class 0,"), ("a.json", "["), ("a.txt", "file ")):
        assert cli.run("predict", ["--workdir=run,0", f"--out={name}", "black.png"]) == 0
        assert Path(name).read_text().startswith(begin)
    capsys.readouterr()
    assert cli.run("evaluate", ["run,0", "--split=validation"]) == 0
    assert "report and plots in run,0/report_validation" in capsys.readouterr().out
