"""Workdirs of somebody else: the plug-ins that they name are code, and run only if the user allows it."""

import importlib.util
import inspect
import itertools
import json
import os
import pickle
import py_compile
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import plugins, specs, storage, trust, upgrades
from jaxvision.cli import run
from jaxvision.engine import logs
from jaxvision.weights import files

PLUGIN = """
import pathlib
import jaxvision as jv
from jaxvision import registry
pathlib.Path({marker!r}).write_text("ran")
@jv.models.register({name!r})
def model(*, output_size: int):
    "Return a small network."
    return registry.models.build("mlp(hidden=(4,))", output_size=output_size, input_size=(32, 32, 1))
"""
SHORT = ["--dataset=digits", "--batch_size=16", "--steps=1"]


@pytest.fixture
def new_process(monkeypatch):
    """Returns a function after which no plug-in counts as loaded, as in another process."""

    def forget():
        monkeypatch.setattr(plugins, "_loaded_plugins", set())
        for name in ("trusted_by_me", "package_by_me", "package_by_me.inner", "named_module"):
            sys.modules.pop(name, None)

    forget()
    return forget


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without plug-ins."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    return jv.train(jv.Config(model="mlp(hidden=(4,))", batch_size=16, steps=1), workdir=folder).workdir


@pytest.fixture
def foreign(plain, tmp_path, monkeypatch):
    """A workdir that names a plug-in which this user never trained with, and an image."""
    monkeypatch.chdir(tmp_path)
    workdir = shutil.copytree(plain, tmp_path / "foreign")
    (workdir / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    name_plugins(workdir, str(workdir / "evil.py"))
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "x.png")
    return workdir


def name_plugins(workdir, *names):
    signature = json.loads((workdir / "signature.json").read_text())
    signature.pop("digest", None)
    (workdir / "signature.json").write_text(json.dumps({**signature, "plugins": names}))


COMMANDS = (
    ["predict", "--workdir=foreign", "x.png"],
    ["evaluate", "foreign"],
    ["export", "--workdir=foreign", "--folder=out"],
    ["train", "--workdir=foreign", "--steps=2"],
    ["train", "--model=mlp(hidden=(4,))", "--init_from=foreign", "--workdir=new", *SHORT],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_no_command_runs_a_plugin_of_a_foreign_workdir(command, foreign, tmp_path, new_process, capsys):
    assert run(command[0], command[1:]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "evil.py" in error and "--trust_plugins" in error and "--plugins=" in error
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("flag", ["--trust_plugins", "--plugins=foreign/evil.py"])
def test_a_flag_allows_it_once(flag, foreign, tmp_path, new_process, capsys):
    assert run("predict", ["--workdir=foreign", "x.png", flag]) == 0
    assert (tmp_path / "ran").exists()
    new_process()
    assert run("predict", ["--workdir=foreign", "x.png"]) == 2


def test_a_plugin_of_the_same_name_is_run_in_place_of_the_foreign_one(foreign, tmp_path, new_process):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "evil.py").write_text("")
    assert run("predict", ["--workdir=foreign", "x.png", "--plugins=mine/evil.py"]) == 0
    assert run("train", ["--workdir=foreign", "--steps=2", "--plugins=mine/evil.py"]) == 0
    assert not (tmp_path / "ran").exists()


def test_python_needs_an_argument(foreign, tmp_path, new_process):
    with pytest.raises(ValueError, match=r"evil\.py.*trust_plugins=True"):
        jv.load(foreign)
    with pytest.raises(ValueError, match=r"evil\.py.*trust_plugins=True"):
        jv.predict(foreign, np.zeros((32, 32, 1), np.uint8))
    assert not (tmp_path / "ran").exists()
    jv.load(foreign, trust_plugins=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["named_module", "package.inner", "relative.py", "./relative.py"])
def test_modules_and_relative_files_are_plugins_too(name, foreign, tmp_path, new_process):
    (tmp_path / "package").mkdir()
    for file in ("named_module.py", "relative.py", "package/__init__.py", "package/inner.py"):
        (tmp_path / file).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    name_plugins(foreign, name)
    with pytest.raises(ValueError, match="names the plug-in"):
        jv.load(foreign)
    assert not (tmp_path / "ran").exists()


def test_all_are_checked_before_the_first_is_run(foreign, tmp_path, new_process):
    other = foreign / "other.py"
    other.write_text(f"open({str(tmp_path / 'other')!r}, 'w').close()\n")
    trust.record(foreign, [str(other)])
    name_plugins(foreign, str(other), str(foreign / "evil.py"))
    with pytest.raises(ValueError, match=r"evil\.py"):
        jv.load(foreign)
    assert not (tmp_path / "other").exists()


@pytest.fixture
def own(tmp_path, monkeypatch, new_process):
    """A run that this user trained with a plug-in, whose file is `trusted_by_me.py`."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "x.png")
    text = PLUGIN.format(marker=str(tmp_path / "ran"), name=f"model_{tmp_path.name}")
    (tmp_path / "trusted_by_me.py").write_text(text)
    flags = [f"--model=model_{tmp_path.name}", "--plugins=trusted_by_me.py", "--workdir=own", *SHORT]
    assert run("train", flags) == 0
    (tmp_path / "ran").unlink()
    new_process()
    return tmp_path


def test_a_run_of_this_user_needs_no_flag_until_the_plugin_changes(own, new_process, capsys):
    for command in (["predict", "--workdir=own", "x.png"], ["train", "--workdir=own", "--steps=2"]):
        new_process()
        assert run(command[0], command[1:]) == 0, capsys.readouterr().err
        assert (own / "ran").exists()
        (own / "ran").unlink()
    with (own / "trusted_by_me.py").open("a") as file:
        file.write("# changed\n")
    new_process()
    assert run("predict", ["--workdir=own", "x.png"]) == 2
    assert "it has changed since you trained with it" in capsys.readouterr().err and not (own / "ran").exists()
    assert run("train", ["--workdir=own", "--steps=3", "--trust_plugins"]) == 0  # which records the new version
    new_process()
    assert run("predict", ["--workdir=own", "x.png"]) == 0


def test_a_copy_of_an_own_workdir_is_foreign(own, new_process, capsys):
    shutil.copytree(own / "own", own / "copy")
    assert run("predict", ["--workdir=copy", "x.png"]) == 2
    (own / "link").symlink_to(own / "own")
    assert run("predict", ["--workdir=link", "x.png"]) == 0
    assert "did not train in this folder" in capsys.readouterr().err


def test_a_package_changes_with_the_packages_around_it(tmp_path, monkeypatch, new_process):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "package_by_me").mkdir()
    for name in ("__init__.py", "inner.py"):
        (tmp_path / "package_by_me" / name).write_text("")
    trust.record(tmp_path, ["package_by_me.inner"])
    assert not trust._refusal(tmp_path, "package_by_me.inner", {})
    (tmp_path / "package_by_me" / "__init__.py").write_text("x = 1")
    assert "changed" in trust._refusal(tmp_path, "package_by_me.inner", {})
    assert "package_by_me" not in sys.modules  # it is found without being run


@pytest.mark.parametrize("line", ["[1]", "3", '{"workdir": 1}', "[" * 100_000, b"\xff", ""])
def test_damaged_records_trust_nothing_and_cost_no_other(line, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("")
    file = trust.state_file()
    file.parent.mkdir(parents=True)
    file.write_bytes((line if isinstance(line, bytes) else line.encode()) + b"\n")
    assert "did not train" in trust._refusal(tmp_path, str(plugin), {})
    trust.record(tmp_path, [str(plugin)])
    trust.record(tmp_path, [str(plugin)])
    assert not trust._refusal(tmp_path, str(plugin), {})
    assert file.read_bytes().count(b"sha256") == 1


def test_without_a_home_nothing_is_recorded_and_a_warning_says_so(tmp_path, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    (tmp_path / "mine.py").write_text("")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(trust.Path, "expanduser", no_home)
    assert trust.state_file() is None
    monkeypatch.setattr(trust, "_digest", lambda plugin: "0")
    monkeypatch.setattr(trust, "plugin_place", str)
    with pytest.warns(UserWarning, match=r"cannot record .*need --plugins or --trust_plugins"):
        trust.record(tmp_path, ["mine.py"])


def test_a_compiled_copy_beside_a_plugin_is_not_run(own, new_process):
    source, changed = own / "trusted_by_me.py", own / "other" / "trusted_by_me.py"
    changed.parent.mkdir()
    changed.write_text(f"open({str(own / 'evil')!r}, 'w').close()\n" + source.read_text())
    compiled = importlib.util.cache_from_source(str(source))
    py_compile.compile(
        str(changed), compiled, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert run("predict", ["--workdir=own", "x.png"]) == 0
    assert (own / "ran").exists() and not (own / "evil").exists()


def test_what_runs_is_what_was_checked_even_if_the_file_changes_in_between(own, new_process, monkeypatch):
    source, load = own / "trusted_by_me.py", trust.load_plugins

    def change_and_load(*arguments, **options):
        text = source.read_text()
        source.write_text(f"open({str(own / 'evil')!r}, 'w').close()\n" + text)
        load(*arguments, **options)

    monkeypatch.setattr(trust, "load_plugins", change_and_load)
    assert run("predict", ["--workdir=own", "x.png"]) == 0
    assert (own / "ran").exists() and not (own / "evil").exists()


def test_the_source_of_a_plugin_is_known_to_python(tmp_path):
    file = tmp_path / "known_source.py"
    file.write_text("class Thing:\n    pass\n\ndef fail():\n    raise KeyError('here')\n")
    module = plugins.import_plugin(str(file))
    assert "class Thing" in inspect.getsource(module.Thing) and module.__file__ == str(file)
    assert type(pickle.loads(pickle.dumps(module.Thing()))) is module.Thing
    with pytest.raises(KeyError) as caught:
        module.fail()
    assert str(caught.traceback[-1].path) == str(file) and caught.traceback[-1].lineno == 4
    sys.modules.pop("known_source")


@pytest.mark.parametrize("name", ["a\0.py", "~nosuch/x.py"])
def test_impossible_names_of_plugins_are_a_warning(name, foreign, new_process):
    name_plugins(foreign, name)
    with pytest.warns(UserWarning, match="could not be imported.*no such file"):
        jv.load(foreign)


@pytest.mark.parametrize("path", ["~nosuch/x", "a\0b", "no/such/folder", "/dev/null"])
def test_data_that_are_not_there_do_not_matter_to_an_old_run(path):
    spec = str(specs.Spec("folder", {"path": path}))
    assert upgrades.upgrade_saved({"dataset": spec}, 3) == {"dataset": spec}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(["config.json", "signature.json", "execution.json"], ["pipe", "device", "large"]),
        *(("metrics.jsonl", "pipe"), ("metrics.jsonl", "device")),
    ],
)
def test_files_that_never_end_are_refused(name, kind, foreign):
    name_plugins(foreign)
    (foreign / name).unlink()
    if kind == "pipe":
        os.mkfifo(foreign / name)
    elif kind == "device":
        (foreign / name).symlink_to("/dev/zero")
    else:
        with (foreign / name).open("wb") as file:
            file.truncate(storage.MAX_JSON + 1)
    why = "has 67,108,865 bytes; expected a file of at most 67,108,864" if kind == "large" else "is not a regular file"
    with pytest.raises(ValueError, match=f"{name} {why}"):
        logs.read_rows(foreign / name) if name == "metrics.jsonl" else jv.load(foreign)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_description_of_weights_that_never_ends_is_refused(kind, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    os.mkfifo(tmp_path / "config.json") if kind == "pipe" else (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"config\.json' next to the weights.*is not a regular file"):
        files.read(str(tmp_path))
