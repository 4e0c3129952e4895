"""Workdirs of somebody else: the plug-ins that they name are code, and run only if the user allows it."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

import jaxvision as jv
from jaxvision import plugins, trust
from jaxvision.cli import run

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
    assert not trust._refusal(tmp_path, "package_by_me.inner")
    (tmp_path / "package_by_me" / "__init__.py").write_text("x = 1")
    assert "changed" in trust._refusal(tmp_path, "package_by_me.inner")
    assert "package_by_me" not in sys.modules  # it is found without being run


@pytest.mark.parametrize("line", ["[1]", "3", '{"workdir": 1}', "[" * 100_000, b"\xff", ""])
def test_damaged_records_trust_nothing_and_cost_no_other(line, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("")
    file = trust.state_file()
    file.parent.mkdir(parents=True)
    file.write_bytes((line if isinstance(line, bytes) else line.encode()) + b"\n")
    assert "did not train" in trust._refusal(tmp_path, str(plugin))
    trust.record(tmp_path, [str(plugin)])
    trust.record(tmp_path, [str(plugin)])
    assert not trust._refusal(tmp_path, str(plugin))
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
